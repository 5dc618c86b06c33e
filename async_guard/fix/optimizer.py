"""
Does the query optimizer load what a GraphQL field returns? Only then it reads the hints below it.

It changes querysets that resolvers of strawberry_django return, or that those make themselves. Rows
in a list are what they are, and so is one object, with all that is read from it but other lists.
What is not sure counts as not optimized: a hint that nobody reads mends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from async_guard.fix.checkout import Checkout, Source
from async_guard.fix.code import called_name, last_name
from async_guard.fix.locate import Place
from async_guard.fix.manager import check_is_queryset
from async_guard.fix.queryset import queryset_of
from async_guard.fix.refusal import Refused
from async_guard.fix.resolver import (
    camel_case,
    class_names,
    decorator_names,
    is_django_type,
    is_of_type,
    names_type,
    returned_values,
    snake_case,
)
from async_guard.fix.scope import bindings, enclosing_class

Field = cst.FunctionDef | cst.AnnAssign
_LIBRARIES = ("strawberry_django", "strawberry.django")
_LISTS = ("connection", "offset_paginated")
_MAKERS = {(library, name) for library in _LIBRARIES for name in ("field", *_LISTS)}
_PLAIN = ("strawberry", "field")
_IS_LIST = re.compile(r"\b([Ll]ist|Sequence|Iterable|\w*Connection|\w*Paginated)\[")


def check_hints_are_read(place: Place, field: str) -> None:
    """Refuse unless hints on the type of the hit are read where ``Query.films`` returns it."""
    if not any(place.checkout.mentioning("DjangoOptimizerExtension")):
        raise Refused("No DjangoOptimizerExtension reads the hints of the field.")
    found = [
        (source, node)
        for source, node in _named(place.checkout, field)
        if is_of_type(place, source, _annotation(node))
    ]
    if not _are_read(place.checkout, found, frozenset()):
        raise Refused(f"Whether the query optimizer loads what {field} returns is not sure.")


def _are_read(
    checkout: Checkout, fields: list[tuple[Source, Field]], seen: frozenset[Field]
) -> bool:
    return bool(fields) and all(
        node in seen or _is_read(checkout, source, node, seen | {node})  # circles decide nothing
        for source, node in fields
    )


def _is_read(checkout: Checkout, source: Source, node: Field, seen: frozenset[Field]) -> bool:
    if isinstance(node, cst.FunctionDef):
        return _returns_querysets(checkout, source, node)
    return _is_made(checkout, source, node, seen)


def _named(checkout: Checkout, field: str) -> Iterator[tuple[Source, Field]]:
    type_name, _, name = field.rpartition(".")
    names = class_names(checkout, type_name)
    for source, node in _fields(checkout, snake_case(name)):
        if _name_of(node) == name and _class_of(source, node) in names:
            yield source, node


def _fields(checkout: Checkout, text: str) -> Iterator[tuple[Source, Field]]:
    """Yield what may be a field of a GraphQL type: annotations and methods of classes."""
    for source in checkout.mentioning(text):
        for node in source.nodes:
            if isinstance(node, cst.FunctionDef | cst.AnnAssign) and enclosing_class(source, node):
                yield source, node


def _annotation(node: Field) -> cst.Annotation | None:
    return node.returns if isinstance(node, cst.FunctionDef) else node.annotation


def _name_of(node: Field) -> str:
    name = node.name if isinstance(node, cst.FunctionDef) else node.target
    return camel_case(name.value) if isinstance(name, cst.Name) else ""


def _class_of(source: Source, node: Field) -> str:
    owner = enclosing_class(source, node)
    return owner.name.value if owner else ""


# --- a resolver --------------------------------------------------------------------------------


def _returns_querysets(checkout: Checkout, source: Source, function: cst.FunctionDef) -> bool:
    makers = [decorator_names(source, each) for each in function.decorators]
    if not _MAKERS.intersection(makers) and (
        _PLAIN not in makers or function.asynchronous is not None  # its coroutine is no queryset
    ):
        return False
    values = list(returned_values(source, function))
    return bool(values) and all(_is_queryset(checkout, source, each) for each in values)


def _is_queryset(checkout: Checkout, source: Source, value: cst.BaseExpression | None) -> bool:
    """Tell whether a value is a queryset that nobody has evaluated."""
    if isinstance(value, cst.Name):
        found = [each.value for each in bindings(source, value)]
        return bool(found) and all(_is_chain(checkout, source, each) for each in found)
    return _is_chain(checkout, source, value)


def _is_chain(checkout: Checkout, source: Source, value: cst.BaseExpression | None) -> bool:
    if not isinstance(value, cst.Call | cst.Attribute):
        return False
    try:
        queryset = queryset_of(source, value)
        check_is_queryset(checkout, queryset)
    except Refused:
        return False
    return queryset.node is value and queryset.end is None


# --- a field without a resolver ----------------------------------------------------------------


def _is_made(
    checkout: Checkout, source: Source, node: cst.AnnAssign, seen: frozenset[Field]
) -> bool:
    """Tell it of ``films: list[Film]``, with ``= strawberry_django.field()`` or without."""
    made, owner = _made(source, node), _class_of(source, node)
    if made is None or not is_django_type(source, node):
        return made is not None and node.value is not None and owner in _roots(checkout)
    if made in _LISTS or _IS_LIST.search(source.code(node.annotation.annotation)):
        return True
    return _are_read(checkout, list(_returning(checkout, owner)), seen)


def _roots(checkout: Checkout) -> set[str]:
    """Return the classes of the root types; their fields have no object to read from."""
    names = {"Query", "Mutation", "Subscription"}
    for source in checkout.mentioning("Schema("):
        for node in source.nodes:
            if isinstance(node, cst.Call) and called_name(node) == "Schema":
                names.update(filter(None, (last_name(arg.value) for arg in node.args)))
    return {each for name in names for each in class_names(checkout, name)}


def _made(source: Source, node: cst.AnnAssign) -> str | None:
    """Return the function of strawberry_django that makes the field from the model alone."""
    if node.value is None:
        return "field"
    if not isinstance(node.value, cst.Call) or _has_resolver(node.value):
        return None
    return called_name(node.value) if decorator_names(source, node.value) in _MAKERS else None


def _has_resolver(call: cst.Call) -> bool:
    return any(arg.keyword is None or arg.keyword.value == "resolver" for arg in call.args)


def _returning(checkout: Checkout, type_name: str) -> Iterator[tuple[Source, Field]]:
    """Yield every field that returns the type, and so may have loaded one object of it."""
    for source, node in _fields(checkout, type_name):
        if names_type(source, _annotation(node), type_name) and _is_field(source, node):
            yield source, node


def _is_field(source: Source, node: Field) -> bool:
    owner = enclosing_class(source, node)
    decorated = node if isinstance(node, cst.FunctionDef) else owner
    names = [decorator_names(source, each) for each in decorated.decorators] if decorated else []
    return any(each and each[0].startswith("strawberry") for each in names)
