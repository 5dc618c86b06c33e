"""
May what was loaded with an object be out of date when it is read?

Without ``select_related()`` a relation is read at the line that needs it, so it knows what was
written before. Loaded with its object it would not: then the read itself goes to a thread.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from itertools import takewhile

import libcst as cst

from async_guard.advice import ASYNC_METHODS
from async_guard.fix.certain import is_queryset, is_standard
from async_guard.fix.checkout import Source
from async_guard.fix.code import (
    everything,
    imported_as,
    is_sync_to_async,
    last_name,
)
from async_guard.fix.locate import Place
from async_guard.fix.queryset import Queryset
from async_guard.fix.refusal import Refused
from async_guard.fix.scope import bindings, enclosing_function, read_names

_CREATING = {"create", "get_or_create", "bulk_create"}
_OF_COLLECTIONS = {"update", "add", "set", "remove", "clear"}
_WRITING = {"update_or_create", "bulk_update", "save", "delete", *_CREATING, *_OF_COLLECTIONS}
_ADDING = {"append", "extend", "insert", "appendleft"}


def check_is_current(
    place: Place, queryset: Queryset, root: cst.BaseExpression, path: list[str]
) -> None:
    """Refuse where something may change the relation after the object was loaded."""
    function = enclosing_function(place.source, place.node)
    if not isinstance(root, cst.Name) or function is None:
        return
    names = _followed(place.source, root)
    if any(_adds(node, names) for node in everything(function.body)):
        raise Refused(f"{root.value} may come from elsewhere: objects are added to the others.")
    for node in _between(place, queryset, function):
        if _changes(place, node, root.value, path[0]):
            code = place.source.code(node).strip().split("\n", 1)[0]
            raise Refused(f"What was loaded could be out of date after {code}.")


def _followed(source: Source, root: cst.Name) -> set[str]:
    """Return the names that lead from the object to its queryset."""
    found: set[str] = set()
    names = [root]
    while names:
        name = names.pop()
        if name.value not in found:
            found.add(name.value)
            values = [each.value for each in bindings(source, name) if each.value is not None]
            names += [each for value in values for each in _names_in(value)]
    return found


def _names_in(value: cst.BaseExpression) -> Iterator[cst.Name]:
    read = read_names(value)
    for node in everything(value):
        if isinstance(node, cst.Name) and node.value in read:
            yield node


def _adds(node: cst.CSTNode, names: set[str]) -> bool:
    """Tell ``films.append(film)``."""
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value=method))):
            return method in _ADDING and name in names
    return False


def _between(place: Place, queryset: Queryset, function: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    """Yield what runs after the query and before the read, in each turn of a loop."""
    source = place.source
    start, end = source.positions[queryset.node].end, source.positions[place.node].start
    around = [parent for parent, _ in source.ancestors(place.node)]
    for loop in takewhile(lambda parent: parent is not function, around):
        if isinstance(loop, cst.For | cst.While) and queryset.node not in everything(loop.body):
            end = source.positions[loop].end
    for node in everything(function.body):
        if isinstance(node, cst.Call | cst.AssignTarget) and node not in around:
            where = source.positions[node].start
            if (start.line, start.column) <= (where.line, where.column) < (end.line, end.column):
                yield node


def _changes(place: Place, node: cst.CSTNode, root: str, field: str) -> bool:
    match node:
        case cst.AssignTarget(target=cst.Attribute(value=cst.Name(value=name), attr=attr)):
            return name == root and attr.value.removesuffix("_id") == field
        case cst.Call():
            methods = [node.func, *(arg.value for arg in node.args)]
            writes = any(_writes(place, each, root) for each in methods)
            return writes or _hands_on(place.source, node, root)
    return False


def _writes(place: Place, method: cst.BaseExpression, root: str) -> bool:
    """Tell ``author.asave``, called or handed to ``sync_to_async``, from ``names.add``."""
    if not isinstance(method, cst.Attribute):
        return False
    name, owner = method.attr.value, method.value
    is_twin = name[:1] == "a" and name[1:] in {*_WRITING, "refresh_from_db"}
    name = name[1:] if is_twin else name
    if name == "refresh_from_db":
        return True
    if name not in _WRITING or last_name(owner) in ("cache", "session"):
        return False
    if place.hit.access in ("forward_relation", "deferred_field") and (
        name in _CREATING or (name == "save" and last_name(owner) == root)
    ):
        return False  # neither is a row that the object led to
    is_plain = name in _OF_COLLECTIONS and isinstance(owner, cst.Name) and not is_twin
    return not is_plain or is_queryset(place.source, owner)


def _hands_on(source: Source, node: cst.Call, root: str) -> bool:
    """Tell ``await tag(film)``, and ``tag(film.pk)`` in a thread: it may do anything with it."""
    if not any(root in read_names(arg) for arg in node.args):
        return False
    function: cst.CSTNode = node.func
    if isinstance(function, cst.Call) and is_sync_to_async(source, function):
        function = function.args[0].value if function.args else function
    elif not any(isinstance(parent, cst.Await) for parent, _ in source.ancestors(node)):
        return False
    return _is_own(source, function)


def _is_own(source: Source, function: cst.CSTNode) -> bool:
    """Tell a function of the project from a builtin, a library's and a method of querysets."""
    name = last_name(function)
    if name is None or {name, name[1:]} & ASYNC_METHODS or hasattr(builtins, name):
        return False
    origin = imported_as(source, name)
    is_library = origin is not None and origin[0].split(".")[0] in ("django", "asgiref")
    assert isinstance(function, cst.BaseExpression)
    return not is_library and not is_standard(source, function)
