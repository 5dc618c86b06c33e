"""
Is a value a queryset, whichever way the code was run?

The log says that it was one once. The next request may find a list in its place, from a cache or a
service, which ``async for`` refuses: only what the code shows counts.
"""

from __future__ import annotations

import builtins
import sys

import libcst as cst

from async_guard.advice import ASYNC_METHODS
from async_guard.fix.checkout import Source
from async_guard.fix.code import called_name, dotted, everything, imported_as, module_of
from async_guard.fix.queryset import METHODS, is_manager
from async_guard.fix.scope import Binding, bindings

_SHARED = {"reverse", "none", "union", "intersection", "difference", "values", "dates", "datetimes"}
"""Methods that sets, dicts or other things have as well."""
_OWN = {*METHODS, "values_list", "iterator"} - _SHARED
_ENDING = {*ASYNC_METHODS, *(f"a{name}" for name in ASYNC_METHODS), "aiterator", "pop", "items"}


def is_queryset(
    source: Source, node: cst.CSTNode | None, seen: frozenset[str] = frozenset()
) -> bool:
    """Tell whether *node* is a queryset for certain; *seen* are names that lead to it."""
    match node:
        case cst.Name(value=name):
            return name in seen or _is_always(source, node, seen | {name})
        case cst.Subscript(value=value):
            return is_slice(node) and is_fresh(value) and is_queryset(source, value, seen)
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name)), args=args):
            if name in _ENDING:
                return False
            is_own = name in _OWN or (name == "values" and bool(args))
            return is_own or _is_start(source, inner, seen)
    return False


def _is_start(source: Source, node: cst.CSTNode, seen: frozenset[str]) -> bool:
    if isinstance(node, cst.Attribute):
        return is_manager(node.attr.value)
    return is_queryset(source, node, seen)


def _is_always(source: Source, name: cst.Name, seen: frozenset[str]) -> bool:
    found = bindings(source, name)
    return bool(found) and all(_binds_queryset(source, each, seen) for each in found)


def _binds_queryset(source: Source, binding: Binding, seen: frozenset[str]) -> bool:
    is_read_once = called_name(binding.value) == "iterator" if binding.value else True
    return not (binding.is_element or is_read_once) and is_queryset(source, binding.value, seen)


def is_slice(node: cst.Subscript) -> bool:
    """Tell a part that is a queryset again: with a step it is a list."""
    index = node.slice[0].slice if len(node.slice) == 1 else None
    return isinstance(index, cst.Slice) and index.step is None


def is_fresh(node: cst.BaseExpression) -> bool:
    """Tell whether *node* makes a queryset of a manager, which no rows can be in yet."""
    while isinstance(node, cst.Call | cst.Attribute | cst.Subscript):
        if isinstance(node, cst.Attribute) and is_manager(node.attr.value):
            return True
        node = node.func if isinstance(node, cst.Call) else node.value
    return False


# --- functions that take one -------------------------------------------------------------------


_ALL = {"zip", "zip_longest", "chain", "product"}
_AFTER_ONE = {
    *("map", "filter", "reduce", "nlargest", "nsmallest"),
    *("takewhile", "dropwhile", "filterfalse", "starmap"),
}
_ENDLESS = {"cycle", "count", "repeat"}
_BUILTINS = frozenset(dir(builtins))


def is_standard(source: Source, function: cst.BaseExpression) -> bool:
    """Tell what comes from the standard library: it knows rows, not querysets."""
    names = dotted(function)
    if not names or names[0] in ("self", "cls"):
        return False
    origin = imported_as(source, names[0])
    module = origin[0] if origin else module_of(source, names[0])
    return module is not None and module.split(".")[0] in sys.stdlib_module_names


def is_endless(node: cst.CSTNode) -> bool:
    return any(called_name(each) in _ENDLESS for each in everything(node))


def iterated(source: Source, node: cst.Call) -> list[cst.BaseExpression]:
    """
    Return the arguments that a call reads the rows of.

    Those that surely are querysets; else the one that may be; none where that is not sure.
    """
    name = called_name(node)
    if isinstance(node.func, cst.Name) and (origin := imported_as(source, node.func.value)):
        _, name = origin
    plain = [arg.value for arg in node.args if arg.keyword is None and not arg.star]
    if name not in _ALL:
        plain = plain[1:] if name in _AFTER_ONE and len(plain) > 1 else plain[:1]
    if found := [each for each in plain if is_queryset(source, each)]:
        return found
    unsure = [each for each in plain if may_be_rows(each)]
    return unsure if len(unsure) == 1 else []


def may_be_rows(node: cst.CSTNode) -> bool:
    """Tell what could be a queryset from lists, texts and what builtins return."""
    match node:
        case cst.Call(func=cst.Name(value=name)):
            return name not in _BUILTINS
    return isinstance(node, cst.Name | cst.Attribute | cst.Subscript | cst.Call | cst.GeneratorExp)
