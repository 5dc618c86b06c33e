"""Rewrites the decorator of a GraphQL field."""

from __future__ import annotations

import libcst as cst

from async_guard.fix.certain import is_standard
from async_guard.fix.checkout import Source
from async_guard.fix.code import called_name, dotted, everything, module_alias, string, with_arg
from async_guard.fix.edit import Edit, Import
from async_guard.fix.locate import Place
from async_guard.fix.refusal import Refused
from async_guard.fix.resolver import decorator_names, field_calls, field_decorator
from async_guard.fix.scope import enclosing_function
from async_guard.fix.thread import function_of

_LIBRARY: Import = ("strawberry_django", None)
_LOADING = {"load", "load_many"}


def django_field(place: Place) -> list[Edit]:
    """
    ``@strawberry.field`` → ``@strawberry_django.field``, with its arguments.

    So is ``strawberry.field(resolver=function)`` in every Django type that has it.
    """
    source, function = _resolver(place)
    if function is None:
        raise Refused("The resolver of the field is no function of this checkout.")
    if function.asynchronous is not None:
        raise Refused("An async resolver stays on the event loop with either decorator.")
    if any(needs_a_loop(source, each) for each in everything(function.body)):
        raise Refused("The resolver loads through a coroutine, which a thread has no loop for.")
    decorator = field_decorator(source, function)
    if decorator is None:
        calls = field_calls(place.checkout, source, function)
        if edits := [_renamed(other, call) for other, call in calls]:
            return edits
        raise Refused("The decorator of the field is not on this function.")
    names = decorator_names(source, decorator)
    if names != ("strawberry", "field"):
        raise Refused(f"The field is a {'.'.join(names or ())} already.")
    return [_renamed(source, decorator)]


def needs_a_loop(source: Source, node: cst.CSTNode) -> bool:
    """Tell ``info.context.films.load(pk)`` of a data loader, and what asyncio does."""
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
        return False
    names = dotted(node.func) or [""]
    is_loader = called_name(node) in _LOADING and not is_standard(source, node.func)
    return is_loader or names[0] == "asyncio"


def _resolver(place: Place) -> tuple[Source, cst.FunctionDef | None]:
    """Return the resolver of the field: the function of the hit, or one that called it."""
    wanted = (place.hit.graphql_resolver or "").replace(":", ".")
    for frame in place.hit.frames:
        if wanted and frame.get("in_app") and frame.get("function") == wanted:
            source, function = function_of(frame, place.checkout)
            return source, function if isinstance(function, cst.FunctionDef) else None
    return place.source, enclosing_function(place.source, place.node)


def _renamed(source: Source, decorator: cst.Decorator | cst.Call) -> Edit:
    alias = module_alias(source, "strawberry_django")
    target = cst.Attribute(cst.Name(alias or "strawberry_django"), cst.Name("field"))
    old = decorator.decorator if isinstance(decorator, cst.Decorator) else decorator
    before = old.func if isinstance(old, cst.Call) else old
    name = _first_name(before)

    def change(updated: cst.Decorator | cst.Call) -> cst.CSTNode:
        if isinstance(updated, cst.Call):
            return updated.with_changes(func=target)
        inner = updated.decorator
        changed = inner.with_changes(func=target) if isinstance(inner, cst.Call) else target
        return updated.with_changes(decorator=changed)

    imports = () if alias else (_LIBRARY,)
    return Edit(source, decorator, change, ("field",), imports, (name,) if name else ())


def _first_name(node: cst.BaseExpression) -> str:
    names = dotted(node)
    return names[0] if names else ""


def hinted_field(place: Place, hint: str, path: str) -> list[Edit]:
    """
    Add ``select_related=["path"]`` to the decorator, where the query optimizer reads it.

    ``@strawberry.field`` knows no hints, so it becomes a ``@strawberry_django.field``.
    """
    function = enclosing_function(place.source, place.node)
    decorator = field_decorator(place.source, function) if function else None
    if decorator is None:
        raise Refused("The decorator of the field is not on this function.")
    names = decorator_names(place.source, decorator)
    if names == ("strawberry", "mutation"):
        raise Refused("A mutation takes no hints.")
    renamed = [_renamed(place.source, decorator)] if names == ("strawberry", "field") else []
    return [*renamed, _hinted(place.source, decorator, hint, path)]


def _hinted(source: Source, decorator: cst.Decorator, hint: str, path: str) -> Edit:
    old = decorator.decorator
    value = _hint(old, hint)
    if value is not None and not isinstance(value, cst.List):
        raise Refused(f"{hint} of the field is not a list that one more can be added to.")
    if value is not None and path in _texts(value):
        raise Refused(f"The field names {path} in {hint} already, and that did not help.")

    def change(updated: cst.Decorator) -> cst.Decorator:
        return updated.with_changes(decorator=_with_hint(updated.decorator, hint, path))

    return Edit(source, decorator, change, ("hint", hint, path))


def _hint(node: cst.BaseExpression, hint: str) -> cst.BaseExpression | None:
    for arg in node.args if isinstance(node, cst.Call) else ():
        if arg.keyword is not None and arg.keyword.value == hint:
            return arg.value
    return None


def _texts(node: cst.BaseExpression) -> list[str]:
    elements = node.elements if isinstance(node, cst.List) else ()
    return [
        str(each.value.evaluated_value)
        for each in elements
        if isinstance(each.value, cst.SimpleString)
    ]


def _with_hint(node: cst.BaseExpression, hint: str, path: str) -> cst.Call:
    call = node if isinstance(node, cst.Call) else cst.Call(node)
    old = _hint(call, hint)
    if isinstance(old, cst.List):
        longer = old.with_changes(elements=[*old.elements, cst.Element(string(path))])
        return call.with_deep_changes(old, elements=longer.elements)
    arg = cst.Arg(
        cst.List([cst.Element(string(path))]),
        keyword=cst.Name(hint),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    at = next((i for i, each in enumerate(call.args) if each.star == "**"), len(call.args))
    return with_arg(call, at, arg)
