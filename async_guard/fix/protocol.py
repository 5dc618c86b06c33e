"""Mends what mixes up coroutines, async generators and plain functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import libcst as cst

from async_guard.advice import ASYNC_METHODS
from async_guard.fix.checkout import Source, module_parts
from async_guard.fix.code import (
    awaited,
    called_name,
    dotted,
    everything,
    imported_as,
    is_sync_to_async,
    last_name,
)
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.refusal import Refused
from async_guard.fix.scope import awaiting_function, bindings, enclosing_class, own_nodes

_UNTIL_LATER = {"create_task", "ensure_future", "gather", "wait", "wait_for", "run", "shield"}


# --- a coroutine that nobody awaits ------------------------------------------------------------


def missing_await(place: Place) -> list[Edit]:
    """``obj.asave()`` → ``await obj.asave()``."""
    source, node = place.source, place.node
    if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
        statement = node.body[0]
        node = statement.value if isinstance(statement, cst.Expr) else node
    if not isinstance(node, cst.Call):
        raise Refused(f"{place.hit.text} is not a call that could be awaited.")
    awaiting_function(source, node)
    return [_await(source, node)]


def _await(source: Source, node: cst.Call) -> Edit:
    parent = source.parent(node)
    if isinstance(parent, cst.Await):
        raise Refused("It is awaited already.")
    if isinstance(parent, cst.Arg) and called_name(source.parent(parent)) in _UNTIL_LATER:
        raise Refused("The coroutine is handed on: who runs it is not to be seen here.")
    return Edit(source, node, lambda old: awaited(source, node, old))


# --- what the protocol is not right for --------------------------------------------------------


def protocol(place: Place) -> list[Edit]:
    """Mend what raised ``TypeError`` or ``AttributeError`` because it was of the other kind."""
    source, node = place.source, place.node
    item = source.parent(node)
    if isinstance(item, cst.WithItem) and isinstance(node, cst.Call):
        return _context_manager(place, node)
    if isinstance(node, cst.Await):
        return _not_awaitable(place, node)
    awaiting_function(source, node)
    if isinstance(node, cst.Call) and _is_moved_coroutine(place, node):
        return [_not_moved(source, node)]
    for call in _calls_behind(source, node):
        if _is_coroutine(place, call):
            return [_await(source, call)]
    raise Refused(f"What {place.hit.text} should be is not sure.")


def _calls_behind(source: Source, node: cst.CSTNode) -> Iterator[cst.Call]:
    """Yield the calls that gave what is used here, directly or by a name."""
    for inner in everything(node):
        if isinstance(inner, cst.Call) and not isinstance(source.parent(inner), cst.Await):
            yield inner
        if isinstance(inner, cst.Name):
            found = bindings(source, inner)
            if len(found) == 1 and isinstance(found[0].value, cst.Call):
                yield found[0].value


def _is_coroutine(place: Place, call: cst.Call) -> bool:
    name = called_name(call) or ""
    if isinstance(call.func, cst.Attribute) and name[:1] == "a" and name[1:] in ASYNC_METHODS:
        return True
    found = functions_of(place, call.func)
    return bool(found) and all(
        each.asynchronous is not None and not _is_generator(each) for _, each in found
    )


def _is_generator(function: cst.FunctionDef) -> bool:
    return any(isinstance(each, cst.Yield) for each in own_nodes(function.body))


def _not_awaitable(place: Place, node: cst.Await) -> list[Edit]:
    call = node.expression
    if isinstance(call, cst.Call) and _is_moved_coroutine(place, call):
        return [_not_moved(place.source, call)]
    found = functions_of(place, call.func) if isinstance(call, cst.Call) else []
    if not found or any(each.asynchronous is not None for _, each in found):
        raise Refused(f"What {place.hit.text} awaits is not sure.")

    def change(updated: cst.Await) -> cst.BaseExpression:
        inner = updated.expression
        return inner.with_changes(
            lpar=[*updated.lpar, *inner.lpar], rpar=[*inner.rpar, *updated.rpar]
        )

    return [Edit(place.source, node, change)]


def _is_moved_coroutine(place: Place, node: cst.Call) -> bool:
    """Tell ``sync_to_async(f)()`` where ``f`` is an ``async def``."""
    moved = node.func
    if (
        not isinstance(moved, cst.Call)
        or not is_sync_to_async(place.source, moved)
        or not moved.args
    ):
        return False
    found = functions_of(place, moved.args[0].value)
    return bool(found) and all(each.asynchronous is not None for _, each in found)


def _not_moved(source: Source, node: cst.Call) -> Edit:
    def change(updated: cst.Call) -> cst.BaseExpression:
        assert isinstance(updated.func, cst.Call)
        return awaited(source, node, updated.with_changes(func=updated.func.args[0].value))

    return Edit(source, node, change, drops=("sync_to_async",))


# --- async_to_sync -----------------------------------------------------------------------------


def direct_await(place: Place) -> list[Edit]:
    """``async_to_sync(f)(x)`` → ``await f(x)``."""
    source, node = place.source, place.node
    awaiting_function(source, node)
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Call):
        raise Refused(f"{place.hit.text} does not show the coroutine function.")
    if called_name(node.func) != "async_to_sync" or len(node.func.args) != 1:
        raise Refused(f"{place.hit.text} does not show the coroutine function.")

    def change(updated: cst.Call) -> cst.BaseExpression:
        assert isinstance(updated.func, cst.Call)
        return awaited(source, node, updated.with_changes(func=updated.func.args[0].value))

    return [Edit(source, node, change, drops=("async_to_sync",))]


# --- an async generator as a context manager ---------------------------------------------------


def _context_manager(place: Place, node: cst.Call) -> list[Edit]:
    """Decorate the async generator that ``async with`` was given."""
    found = functions_of(place, node.func)
    if len(found) != 1:
        raise Refused(f"What {called_name(node)} is cannot be seen in the code.")
    source, function = found[0]
    if function.asynchronous is None or not _is_generator(function):
        raise Refused(f"{function.name.value} is not an async generator.")
    if function.decorators:
        raise Refused(f"{function.name.value} is decorated already.")
    _check_users(place, function.name.value)

    def change(updated: cst.FunctionDef) -> cst.FunctionDef:
        added = cst.Decorator(cst.Name("asynccontextmanager"))
        return updated.with_changes(decorators=[added])

    wanted = (("contextlib", "asynccontextmanager"),)
    return [Edit(source, function, change, ("decorator",), wanted)]


def _check_users(place: Place, name: str) -> None:
    """Refuse where somebody else iterates over the generator: his code would break."""
    for source in place.checkout.mentioning(name):
        for node in source.nodes:
            is_item = isinstance(source.parents.get(node), cst.WithItem)
            if called_name(node) == name and not is_item:
                line = source.positions[node].start.line
                raise Refused(f"{source.name}:{line} uses {name} in another way.")


# --- which function is called ------------------------------------------------------------------


def functions_of(place: Place, node: cst.BaseExpression) -> list[tuple[Source, cst.FunctionDef]]:
    """Return what a name or ``self.method`` stands for; nothing if that is not sure."""
    source = place.source
    if isinstance(node, cst.Name):
        return _named(place, source, node)
    names = dotted(node)
    if names and len(names) == 2 and names[0] in ("self", "cls"):
        owner = _class_around(source, node)
        body = owner.body.body if owner is not None else ()
        return [(source, each) for each in body if _is_called(each, names[1])]
    return []


def _named(place: Place, source: Source, node: cst.Name) -> list[tuple[Source, cst.FunctionDef]]:
    local = [each.node for each in bindings(source, node)]
    if local:
        return [(source, each) for each in local if isinstance(each, cst.FunctionDef)]
    top = [(source, each) for each in source.module.body if _is_called(each, node.value)]
    return top or _imported(place, source, node.value)


def _imported(place: Place, source: Source, alias: str) -> list[tuple[Source, cst.FunctionDef]]:
    origin = imported_as(source, alias)
    if origin is None:
        return []
    wanted = tuple(part for part in origin[0].split(".") if part)
    found = [
        (other, each)
        for other in place.checkout.mentioning(f"def {origin[1]}")
        if module_parts(other.path, place.checkout.root)[-len(wanted) :] == wanted
        for each in other.module.body
        if _is_called(each, origin[1])
    ]
    return found if len(found) == 1 else []


def _is_called(node: cst.CSTNode, name: str) -> TypeGuard[cst.FunctionDef]:
    return isinstance(node, cst.FunctionDef) and last_name(node.name) == name


def _class_around(source: Source, node: cst.CSTNode) -> cst.ClassDef | None:
    for parent, _ in source.ancestors(node):
        if isinstance(parent, cst.FunctionDef) and (found := enclosing_class(source, parent)):
            return found
    return None
