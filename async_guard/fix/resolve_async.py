"""Makes a plain sync resolver async: GraphQL calls it either way, and nobody else can."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.refusal import NotHere, Refused
from async_guard.fix.resolver import decorator_names, is_django_type
from async_guard.fix.scope import enclosing_function, own_nodes

Rewrite = Callable[[Place], list[Edit]]


def in_async_resolver(rewrite: Rewrite) -> Rewrite:
    """Return the rewrite for a sync resolver, which is made async for it."""

    def made_async(place: Place) -> list[Edit]:
        function = _sync_resolver(place)
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


def _sync_resolver(place: Place) -> cst.FunctionDef:
    source = place.source
    function = enclosing_function(source, place.node)
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
    if any(isinstance(each, cst.Yield) for each in own_nodes(function.body)):
        raise Refused("The resolver is a generator.")
    if any(place.checkout.mentioning("execute_sync")):
        raise Refused("The schema is executed without a loop, too, where a resolver cannot await.")
    return function


def _has_extensions(decorator: cst.Decorator) -> bool:
    node = decorator.decorator
    args = node.args if isinstance(node, cst.Call) else ()
    return any(arg.keyword is None or arg.keyword.value == "extensions" for arg in args)
