"""The asynchronous twin of what was called: ``get`` → ``await aget``."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from async_guard.fix.checkout import Source
from async_guard.fix.code import (
    awaited,
    bare,
    call,
    called_name,
    everything,
    imported_as,
    last_name,
)
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.refusal import Refused
from async_guard.fix.scope import awaiting_function, bindings

_REQUESTS = {"request", "req", "_request"}
_SETTING = {"login", "alogin", "logout", "alogout"}


_HOMES = {
    **dict.fromkeys(("get_object_or_404", "get_list_or_404"), "django.shortcuts"),
    **dict.fromkeys(("authenticate", "login", "logout"), "django.contrib.auth"),
}


def twin(place: Place) -> list[Edit]:
    """``x.get(…)`` → ``await x.aget(…)``, ``login(…)`` → ``await alogin(…)``."""
    node, name = place.node, (place.hit.orm_operation or "").lstrip("_")
    if not isinstance(node, cst.Call):
        raise Refused(f"{place.hit.text} is not a call that has an async twin.")
    awaiting_function(place.source, node)
    if isinstance(node.func, cst.Attribute) and called_name(node) == name:
        return [_method(place.source, node)]
    if isinstance(node.func, cst.Name):
        origin = imported_as(place.source, node.func.value)
        if origin is not None and origin[1] == name:
            return [_function(place.source, node, origin, node.func.value)]
    raise Refused(f"{place.hit.text} calls {name} by another name.")


def _method(source: Source, node: cst.Call) -> Edit:
    def change(updated: cst.Call) -> cst.BaseExpression:
        assert isinstance(updated.func, cst.Attribute)
        attr = cst.Name(f"a{updated.func.attr.value}")
        return awaited(
            source, node, updated.with_changes(func=updated.func.with_changes(attr=attr))
        )

    return Edit(source, node, change)


def _function(source: Source, node: cst.Call, origin: tuple[str, str], alias: str) -> Edit:
    module, name = origin
    if not module.startswith("django."):  # the project's own module may not have the twin
        module = _HOMES.get(name, "")
    if not module:
        raise Refused(f"Which module has the async twin of {name} is not sure.")

    def change(updated: cst.Call) -> cst.BaseExpression:
        return awaited(source, node, updated.with_changes(func=cst.Name(f"a{name}")))

    return Edit(source, node, change, imports=((module, f"a{name}"),), drops=(alias,))


# --- operators of sessions and caches ----------------------------------------------------------


def operator(place: Place) -> list[Edit]:
    """``key in session`` → ``await session.ahas_key(key)``, and the other operators."""
    node = place.node
    awaiting_function(place.source, node)
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        return [_contains(place.source, node)]
    if isinstance(node, cst.Subscript) and len(node.slice) == 1:
        return [_item(place.source, node)]
    raise Refused(f"{place.hit.text} has no async twin.")


def _contains(source: Source, node: cst.Comparison) -> Edit:
    target = node.comparisons[0]
    if not isinstance(target.operator, cst.In | cst.NotIn):
        raise Refused("This comparison has no async twin.")

    def change(updated: cst.Comparison) -> cst.BaseExpression:
        container = updated.comparisons[0].comparator
        asked = call(cst.Attribute(container, cst.Name("ahas_key")), bare(updated.left))
        if isinstance(target.operator, cst.In):
            return awaited(source, node, asked.with_changes(lpar=updated.lpar, rpar=updated.rpar))
        return cst.UnaryOperation(cst.Not(), cst.Await(asked), lpar=updated.lpar, rpar=updated.rpar)

    return Edit(source, node, change)


def _item(source: Source, node: cst.Subscript) -> Edit:
    parent = source.parent(node)
    key = node.slice[0].slice
    if not isinstance(key, cst.Index):
        raise Refused("A slice has no async twin.")
    if isinstance(parent, cst.AssignTarget):
        return _assigned(source, node, source.parent(parent))
    if isinstance(parent, cst.Del):
        return Edit(
            source, parent, lambda old: cst.Expr(cst.Await(_on(old.target, "apop"))), ("item",)
        )
    if isinstance(parent, cst.AugAssign):
        raise Refused("An augmented assignment reads and writes: it has no async twin.")
    return Edit(source, node, lambda old: awaited(source, node, _read(old)), imports=(_THREAD,))


_THREAD = ("asgiref.sync", "sync_to_async")


def _read(item: cst.Subscript) -> cst.Call:
    """Return the read in a thread: ``aget()`` would give None where the key is missing."""
    method = cst.Attribute(item.value, cst.Name("__getitem__"))
    return call(call("sync_to_async", method), _key(item)).with_changes(
        lpar=item.lpar, rpar=item.rpar
    )


def _on(item: cst.BaseExpression, method: str, *more: cst.BaseExpression) -> cst.Call:
    assert isinstance(item, cst.Subscript)
    return call(cst.Attribute(item.value, cst.Name(method)), _key(item), *more)


def _key(item: cst.Subscript) -> cst.BaseExpression:
    index = item.slice[0].slice
    assert isinstance(index, cst.Index)
    return index.value


def _assigned(source: Source, node: cst.Subscript, statement: cst.CSTNode) -> Edit:
    if not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        raise Refused("An assignment to several targets has no async twin.")

    def change(updated: cst.Assign) -> cst.Expr:
        return cst.Expr(cst.Await(_on(updated.targets[0].target, "aset", bare(updated.value))))

    return Edit(source, statement, change, ("item",))


# --- request.user ------------------------------------------------------------------------------


def request_user(place: Place) -> list[Edit]:
    """``request.user.is_staff`` → ``(await request.auser()).is_staff``."""
    source = place.source
    found = [each for each in everything(place.node) if _is_request_user(each)]
    if not found:
        values = (_assigned_user(source, name) for name in _names_in(place.node))
        found = [each for each in values if each is not None]
    if not found:
        raise Refused("Where the lazy user comes from is not to be seen in this function.")
    edits = []
    for each in dict.fromkeys(found):
        function = awaiting_function(source, each)
        edits += [_auser(source, node) for node in {each: None} | _others(source, function)]
    return edits


def _others(source: Source, function: cst.FunctionDef) -> dict[cst.CSTNode, None]:
    """Return all ``request.user`` of a function: each of them is as lazy as the first."""
    found = [each for each in everything(function.body) if _is_request_user(each)]
    if any(called in _SETTING for called in _called_in(function)):
        raise Refused("The function logs in or out, which changes the user of the request.")
    if any(isinstance(source.parent(each), cst.AssignTarget) for each in found):
        raise Refused("The function sets the user of the request, which auser() does not know.")
    if not all(_is_awaiting(source, each, function) for each in found):
        raise Refused("A function inside reads the user as well, which auser() would not load.")
    return dict.fromkeys(found)


def _called_in(function: cst.FunctionDef) -> Iterator[str | None]:
    """Yield the names of what is called, and of what is handed to ``sync_to_async``."""
    for node in everything(function.body):
        if isinstance(node, cst.Call):
            yield called_name(node)
            yield from (last_name(arg.value) for arg in node.args)


def _is_awaiting(source: Source, node: cst.CSTNode, function: cst.FunctionDef) -> bool:
    try:
        return awaiting_function(source, node) is function
    except Refused:
        return False


def _is_request_user(node: cst.CSTNode) -> bool:
    if not isinstance(node, cst.Attribute) or node.attr.value != "user":
        return False
    match node.value:
        case cst.Subscript(slice=[cst.SubscriptElement(cst.Index(cst.SimpleString() as key))]):
            return key.evaluated_value in _REQUESTS
    return last_name(node.value) in _REQUESTS


def _names_in(node: cst.CSTNode) -> list[cst.Name]:
    return [each for each in everything(node) if isinstance(each, cst.Name)]


def _assigned_user(source: Source, name: cst.Name) -> cst.CSTNode | None:
    """Return the ``request.user`` that a local name stands for."""
    found = bindings(source, name)
    if len(found) != 1 or found[0].value is None or found[0].is_element:
        return None
    return found[0].value if _is_request_user(found[0].value) else None


def _auser(source: Source, node: cst.CSTNode) -> Edit:
    def change(updated: cst.Attribute) -> cst.BaseExpression:
        method = updated.with_changes(attr=cst.Name("auser"), lpar=[], rpar=[])
        asked = cst.Call(method, lpar=updated.lpar, rpar=updated.rpar)
        return awaited(source, node, asked)

    return Edit(source, node, change)
