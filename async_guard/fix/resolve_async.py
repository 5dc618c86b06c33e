"""
Makes a plain sync resolver, or permission, async: GraphQL calls it either way, and nobody else can.

A permission needs care: a coroutine that somebody forgets to await is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import libcst as cst

from async_guard.fix.code import everything, last_name
from async_guard.fix.edit import Edit
from async_guard.fix.field import needs_a_loop
from async_guard.fix.locate import Place
from async_guard.fix.refusal import NotHere, Refused
from async_guard.fix.resolver import decorator_names, is_django_type
from async_guard.fix.scope import enclosing_class, enclosing_function, own_nodes

Rewrite = Callable[[Place], list[Edit]]


def in_async_resolver(rewrite: Rewrite) -> Rewrite:
    """Return the rewrite for a sync resolver, which is made async for it."""

    def made_async(place: Place) -> list[Edit]:
        function = _sync_function(place)
        place.source.made_async.add(function)
        try:
            edits = rewrite(place)
        except Refused:
            place.source.made_async.discard(function)
            raise
        return [Edit(place.source, function, _async, ("async",)), *edits]

    return made_async


def _async(updated: cst.FunctionDef) -> cst.FunctionDef:
    return updated.with_changes(asynchronous=cst.Asynchronous())


def _sync_function(place: Place) -> cst.FunctionDef:
    function = enclosing_function(place.source, place.node)
    if function is not None and function.name.value == _PERMISSION:
        return _sync_permission(place, function)
    return _sync_resolver(place, function)


def _sync_permission(place: Place, function: cst.FunctionDef) -> cst.FunctionDef:
    """Return ``has_permission`` of a class that only Strawberry can know."""
    source, owner = place.source, enclosing_class(place.source, function)
    bases = [decorator_names(source, arg.value) for arg in owner.bases] if owner else []
    if owner is None or function.decorators or len(bases) != 1 or bases[0] not in _BASES:
        raise NotHere("It is not a permission that only GraphQL asks.")
    _check_loops(place, function)
    if function.asynchronous is not None:
        raise NotHere("It is async already.")
    if any(place.checkout.mentioning(f".{_PERMISSION}(")):
        raise Refused(f"{_PERMISSION} is a sync function that is called in the code as well.")
    if any(_derives(each, owner.name.value) for each in _classes(place, owner.name.value)):
        raise Refused(f"Other permissions derive from {owner.name.value}, and may not await it.")
    return function


_PERMISSION = "has_permission"
_BASES = [("strawberry.permission", "BasePermission"), ("strawberry", "BasePermission")]


def _classes(place: Place, name: str) -> Iterator[cst.ClassDef]:
    for source in place.checkout.mentioning(name):
        yield from (each for each in source.nodes if isinstance(each, cst.ClassDef))


def _derives(node: cst.ClassDef, name: str) -> bool:
    return any(last_name(arg.value) == name for arg in node.bases)


def _check_loops(place: Place, function: cst.FunctionDef) -> None:
    if any(isinstance(each, cst.Yield) for each in own_nodes(function.body)):
        raise Refused("The resolver is a generator.")
    if any(needs_a_loop(place.source, each) for each in everything(function.body)):
        raise Refused("The resolver may return a coroutine, which an async one would not await.")
    if any(place.checkout.mentioning("execute_sync")):
        raise Refused("The schema is executed without a loop, too, where a resolver cannot await.")


def _sync_resolver(place: Place, function: cst.FunctionDef | None) -> cst.FunctionDef:
    source = place.source
    if function is None or len(function.decorators) != 1:
        raise NotHere("It is not a resolver that only GraphQL calls.")
    decorator = function.decorators[0]
    if decorator_names(source, decorator) not in (
        ("strawberry", "field"),
        ("strawberry", "mutation"),
    ):
        raise NotHere("It is not a resolver that only GraphQL calls.")
    if _has_extensions(decorator):
        raise Refused("The extensions of the field may not know async resolvers.")
    if is_django_type(source, function):
        raise Refused("The field of a Django type runs in a thread with @strawberry_django.field.")
    _check_loops(place, function)
    return function


def _has_extensions(decorator: cst.Decorator) -> bool:
    node = decorator.decorator
    args = node.args if isinstance(node, cst.Call) else ()
    return any(arg.keyword is None or arg.keyword.value == "extensions" for arg in args)
