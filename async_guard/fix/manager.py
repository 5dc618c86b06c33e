"""Does a method of a manager, or of a queryset, that the project wrote itself give a queryset?"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from async_guard.fix.checkout import Checkout, Source
from async_guard.fix.code import called_name, last_name
from async_guard.fix.queryset import METHODS, Queryset
from async_guard.fix.refusal import Refused
from async_guard.fix.scope import bindings, enclosing_class, own_nodes

_KINDS = ("Manager", "QuerySet")


def check_is_queryset(checkout: Checkout, queryset: Queryset) -> None:
    """Refuse a chain whose last method may give anything: one object, a list, a coroutine."""
    last = queryset.insertion
    if not isinstance(last, cst.Call) or queryset.end or last is not queryset.node:
        return  # what follows it is a method of querysets
    name = called_name(last) or ""
    if not _gives_querysets(checkout, name, frozenset()):
        raise Refused(f"Whether {name}() gives a queryset is not sure.")


def _gives_querysets(checkout: Checkout, name: str, seen: frozenset[str]) -> bool:
    found = list(_methods(checkout, name))
    return bool(found) and all(
        _returns_querysets(checkout, source, each, seen | {name}) for source, each in found
    )


def _methods(checkout: Checkout, name: str) -> Iterator[tuple[Source, cst.FunctionDef]]:
    for source in checkout.mentioning(f"def {name}"):
        for node in source.nodes:
            if isinstance(node, cst.FunctionDef) and node.name.value == name:
                owner = enclosing_class(source, node)
                bases = (
                    [last_name(_called(arg.value)) or "" for arg in owner.bases] if owner else []
                )
                if any(kind in base for base in bases for kind in _KINDS):
                    yield source, node


def _called(base: cst.BaseExpression) -> cst.BaseExpression:
    """Return ``Manager`` of ``Manager.from_queryset(FilmQuerySet)`` and of ``Manager[Film]``."""
    while isinstance(base, cst.Call | cst.Subscript):
        if isinstance(base, cst.Call) and isinstance(base.func, cst.Attribute):
            base = base.func.value
        else:
            base = base.func if isinstance(base, cst.Call) else base.value
    return base


def _returns_querysets(
    checkout: Checkout, source: Source, function: cst.FunctionDef, seen: frozenset[str]
) -> bool:
    if function.asynchronous is not None or function.decorators:
        return False
    found = list(own_nodes(function.body))
    values = [each.value for each in found if isinstance(each, cst.Return)]
    return (
        bool(values)
        and not any(isinstance(each, cst.Yield) for each in found)
        and all(_is_queryset(checkout, source, each, seen) for each in values)
    )


def _is_queryset(
    checkout: Checkout, source: Source, value: cst.BaseExpression | None, seen: frozenset[str]
) -> bool:
    """Tell whether a value is ``self``, or what methods that give querysets make of it."""
    match value:
        case cst.Name(value="self") | cst.Call(func=cst.Name(value="super")):
            return True
        case cst.Name():
            found = bindings(source, value)
            return bool(found) and all(
                _starts_at(each.value, value.value)
                or _is_queryset(checkout, source, each.value, seen)
                for each in found
            )
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))):
            is_known = name in METHODS or name in seen or _gives_querysets(checkout, name, seen)
            return is_known and _is_queryset(checkout, source, inner, seen)
    return False


def _starts_at(value: cst.BaseExpression | None, name: str) -> bool:
    """Tell a step: ``films`` of ``films = films.filter(…)``."""
    while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute):
        if called_name(value) not in METHODS:
            return False
        value = value.func.value
    return isinstance(value, cst.Name) and value.value == name
