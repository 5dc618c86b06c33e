"""Moves a call, or what else uses the database, into the worker thread: ``sync_to_async``."""

from __future__ import annotations

from typing import Any

import libcst as cst

from async_guard.fix.checkout import Checkout, Source, qualname
from async_guard.fix.code import (
    SYNC_TO_ASYNC,
    awaited,
    bare,
    call,
    called_name,
    everything,
    has,
    is_sync_to_async,
    last_name,
    string,
)
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place, qualified
from async_guard.fix.refusal import Done, NotHere, Refused, SyncFunction
from async_guard.fix.scope import awaiting_function, own_nodes
from async_guard.hit import Hit

_BUILTIN_OF = {"__str__": "str", "__repr__": "repr", "__len__": "len", "__bool__": "bool"}
_LAZY = {"page", "get_page"}
_EDGES = ("asyncio/", "graphql/execution/", "django/core/handlers/", "uvicorn/")


def call_in_thread(place: Place) -> list[Edit]:
    """``lib.call(x)`` → ``await sync_to_async(lib.call)(x)``."""
    if not isinstance(place.node, cst.Call):
        raise NotHere(f"{place.hit.text} is not a call that could be moved to a thread.")
    awaiting_function(place.source, place.node)
    if called_name(place.node) in _LAZY:
        name = called_name(place.node)
        raise Refused(
            f"What {name} returns is lazy, too: it and what uses its rows belong into one sync "
            "function."
        )
    return [threaded_call(place.source, place.node)]


def decorated_in_thread(place: Place) -> list[Edit]:
    """``book(seat)`` → ``await sync_to_async(book)(seat)``, of ``@transaction.atomic def book``."""
    is_awaited = isinstance(place.source.parent(place.node), cst.Await)
    if is_awaited or not is_opened_by_decorator(place.hit):
        raise NotHere(f"{place.hit.text} is not the call of what is decorated.")
    return call_in_thread(place)


def is_opened_by_decorator(hit: Hit) -> bool:
    names = (str(each.get("function", "")) for each in hit.frames)
    return any(name.endswith("ContextDecorator.__call__.inner") for name in names)


def threaded_call(source: Source, node: cst.Call) -> Edit:
    def change(updated: cst.Call) -> cst.BaseExpression:
        function = updated.func
        if isinstance(function, cst.Await | cst.Lambda):
            function = function.with_changes(lpar=[], rpar=[])
        moved = updated.with_changes(
            func=call("sync_to_async", function), whitespace_after_func=cst.SimpleWhitespace("")
        )
        return awaited(source, node, moved)

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,))


def access_in_thread(place: Place) -> list[Edit]:
    """``film.director`` → ``await sync_to_async(lambda: film.director)()``."""
    if isinstance(place.node, cst.Call):
        return call_in_thread(place)
    if not isinstance(place.node, cst.BaseExpression):
        raise NotHere(f"{place.hit.text} is not an expression that could be moved to a thread.")
    awaiting_function(place.source, place.node)
    if isinstance(place.node, cst.Name):
        return [_threaded_rows(place, place.node)]
    return [threaded_access(place.source, place.node)]


def _threaded_rows(place: Place, name: cst.Name) -> Edit:
    """``for film in page`` → ``for film in await sync_to_async(list)(page)``."""
    loop = place.source.parent(name)
    if not isinstance(loop, cst.For | cst.CompFor) or loop.iter is not name:
        raise Refused(f"What is done with {name.value} asks the database, not to read it.")
    if place.hit.owner != "framework":
        raise Refused(f"Whether {name.value} of a library ever ends is not sure.")
    return rows_in_thread(place.source, name)


def rows_in_thread(source: Source, node: cst.CSTNode) -> Edit:
    """``for x in books`` → ``for x in await sync_to_async(list)(books)``: right for lists, too."""

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        return awaited(source, node, call(call("sync_to_async", cst.Name("list")), bare(updated)))

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,), is_fallback=True)


def threaded_access(source: Source, node: cst.BaseExpression) -> Edit:
    if has(node, cst.NamedExpr, cst.Yield):
        raise Refused("It assigns or yields in the middle of an expression.")
    if isinstance(source.parent(node), cst.AssignTarget | cst.AugAssign | cst.Del):
        raise Refused("An assignment cannot be moved to a thread as it is.")
    if isinstance(node, cst.Attribute) and (has(node, cst.Await) or _has_super(node)):
        attribute = node.attr.value

        def get(updated: cst.Attribute) -> cst.BaseExpression:
            inner = call(
                call("sync_to_async", cst.Name("getattr")), bare(updated.value), string(attribute)
            )
            return awaited(source, node, inner)

        return Edit(source, node, get, imports=(SYNC_TO_ASYNC,), is_fallback=True)
    if has(node, cst.Await) or _has_super(node):
        raise Refused("It awaits, or asks super(), in what would have to move to a thread.")

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        body = node.deep_clone().with_changes(lpar=node.lpar, rpar=node.rpar)
        function = cst.Lambda(cst.Parameters(), body)
        moved = cst.Call(call("sync_to_async", function))
        return awaited(source, node, moved)

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,), is_fallback=True)


def _has_super(node: cst.CSTNode) -> bool:
    return any(called_name(each) == "super" for each in everything(node))


# --- the async function that called ------------------------------------------------------------


def caller_in_thread(place: Place) -> list[Edit]:
    """Move the call that an async function made, on whose way down a sync one hit."""
    if place.hit.on_stack:
        try:
            awaiting_function(place.source, place.node)
        except SyncFunction:
            pass
        else:
            raise NotHere("It is in an async function itself.")
    return moved_caller(place.hit, place.checkout)


def moved_caller(hit: Hit, checkout: Checkout) -> list[Edit]:
    """Do the same for a hit that has no place in the code: a template's."""
    names: list[str] = []
    called: cst.CSTNode | None = None
    for frame in _frames(hit):
        if frame.get("in_app"):
            source, function = function_of(frame, checkout)
            if isinstance(function, cst.FunctionDef) and function.asynchronous is not None:
                _check_runs_when_called(called)
                return _moved(source, function, frame, names)
            names, called = [], function
        names = _names_of(str(frame["function"])) + names
    name = ".".join(hit.function.split(".")[-2:]) if hit.path.endswith(".py") else hit.path
    raise NotHere(f"No async function of the project leads to {name}, so nothing can be awaited.")


def _check_runs_when_called(function: cst.CSTNode | None) -> None:
    """Refuse what is lazy: nothing of it would run in the thread that the call is moved to."""
    if not isinstance(function, cst.FunctionDef):
        return
    if any(isinstance(each, cst.Yield) for each in own_nodes(function.body)):
        name = function.name.value
        raise Refused(f"{name} is a generator: it runs where it is read, not where it is called.")


def _frames(hit: Hit) -> list[dict[str, Any]]:
    """Return the frames from the hit outwards, as far as the call was made by project code."""
    frames = [each for each in hit.frames if "function" in each]
    if hit.on_stack:
        start = next((i for i, each in enumerate(frames) if each.get("in_app")), len(frames))
        frames = frames[start:]
    edge = (i for i, each in enumerate(frames) if str(each.get("file", "")).startswith(_EDGES))
    return frames[: next(edge, len(frames))]


def function_of(frame: dict[str, Any], checkout: Checkout) -> tuple[Source, cst.CSTNode]:
    """Return the function that a frame ran; a comprehension is part of it."""
    name, path, line = str(frame["function"]), str(frame.get("file", "")), frame.get("line", 0)
    source = checkout.find(path, name)
    wanted = qualname(source.path, name, checkout.root)
    named = [node for node, its in qualified(source) if its == wanted]
    found = [each for each in named if isinstance(each, cst.FunctionDef)] or named
    if len(found) > 1:
        found = [e for e in found if source.first_line(e) <= line <= source.last_line(e)]
    if not found:
        raise Refused(f"{name}, which called it, is not in {source.name} any more.")
    return source, found[0]


def _names_of(function: str) -> list[str]:
    """Return what a call of *function* may be written as, most likely first."""
    *before, name = function.split(".")
    if name in ("__init__", "__new__", "__call__") and before:
        return [before[-1]]
    return [_BUILTIN_OF.get(name, name)]


def _moved(
    source: Source, function: cst.FunctionDef, frame: dict[str, Any], names: list[str]
) -> list[Edit]:
    """Return the edits of what leads to the names on the frame's line; calls of one function."""
    nodes = [each for each in _with_comprehensions(function) if _is_on(source, each, frame)]
    for name in names:
        if any(_moves(source, each, name) for each in nodes):
            raise Done(f"{name} is called in a thread already.")
        calls = [each for each in nodes if isinstance(each, cst.Call) and called_name(each) == name]
        reads = [
            each for each in nodes if isinstance(each, cst.Attribute) and last_name(each) == name
        ]
        if len({source.code(each.func) for each in calls}) == 1:
            return [_moved_call(source, each) for each in calls]
        if not calls and len(reads) == 1:
            awaiting_function(source, reads[0])
            return [threaded_access(source, reads[0])]
        if calls or reads:
            break
    else:
        if names and names[0] in _BUILTIN_OF.values() and (edit := _formatted(source, nodes)):
            return [edit]
    name = function.name.value
    raise NotHere(f"The call in the async {name} that led here cannot be told from its line.")


def _moves(source: Source, node: cst.CSTNode, name: str) -> bool:
    """Tell ``sync_to_async(name)``."""
    return (
        isinstance(node, cst.Call)
        and is_sync_to_async(source, node)
        and any(last_name(arg.value) == name for arg in node.args)
    )


def _with_comprehensions(function: cst.FunctionDef) -> list[cst.CSTNode]:
    found: dict[cst.CSTNode, None] = {}
    for node in own_nodes(function.body):
        inside = everything(node) if isinstance(node, cst.BaseComp) else [node]
        found.update(dict.fromkeys(inside))
    return list(found)


def _is_on(source: Source, node: cst.CSTNode, frame: dict[str, Any]) -> bool:
    where = source.positions.get(node)
    line = frame.get("line", 0)
    return where is not None and where.start.line <= line <= where.end.line


def _moved_call(source: Source, node: cst.Call) -> Edit:
    if isinstance(source.parent(node), cst.Await):
        raise Refused("The async function awaits the call already: it is another one that hits.")
    awaiting_function(source, node)
    return threaded_call(source, node)


def _formatted(source: Source, nodes: list[cst.CSTNode]) -> Edit | None:
    """
    ``f"{film}"`` → ``f"{await sync_to_async(str)(film)}"``.

    Of several it is not known which it was: the whole string is made in a thread.
    """
    found = [
        each
        for each in nodes
        if isinstance(each, cst.FormattedStringExpression) and not has(each.expression, cst.Await)
    ]
    strings = list(dict.fromkeys(source.parent(each) for each in found))
    if len(strings) != 1 or not isinstance(strings[0], cst.FormattedString):
        return None
    if len(found) > 1 or found[0].conversion or found[0].format_spec:
        awaiting_function(source, strings[0])
        return threaded_access(source, strings[0])
    node = found[0].expression
    awaiting_function(source, node)

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        return awaited(source, node, call(call("sync_to_async", cst.Name("str")), updated))

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,))
