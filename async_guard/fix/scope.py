"""May ``await`` stand here, and what is a name bound to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from async_guard.fix.checkout import Source
from async_guard.fix.refusal import InGenerator, Refused, SyncFunction

Function = cst.FunctionDef


@dataclass(frozen=True, slots=True)
class Binding:
    """One of the places where a name gets its value."""

    node: cst.CSTNode
    """The assignment, the loop, the comprehension's ``for``, the parameter, …"""
    value: cst.BaseExpression | None
    """What is assigned; None where that is not to be seen."""
    is_element: bool = False
    """The name stands for one item of the value after the other."""


def awaiting_function(source: Source, node: cst.CSTNode) -> Function:
    """Return the ``async def`` that *node* may await in, or refuse with the reason."""
    for parent, child in source.ancestors(node):
        if isinstance(parent, cst.GeneratorExp) and not _may_await(source, parent, node):
            raise InGenerator(parent)
        if isinstance(parent, cst.Lambda) and child is parent.body:
            raise Refused("It is in a lambda, where await is not allowed.")
        if isinstance(parent, cst.ClassDef) and child is parent.body:
            raise Refused(f"It is in the body of class {parent.name.value}, which cannot await.")
        if isinstance(parent, cst.FunctionDef) and child is parent.body:
            if parent.asynchronous is None and parent not in source.made_async:
                raise _sync_refusal(source, parent)
            return parent
    raise Refused("It is on module level, where await is not allowed.")


def _sync_refusal(source: Source, function: Function) -> Refused:
    name = function.name.value
    outer = enclosing_function(source, function)
    if outer is not None and outer.asynchronous is not None:
        around = outer.name.value
        return Refused(f"{name} is a sync def inside the async {around}, and cannot await.")
    return SyncFunction(
        f"{name} is a sync function: to await in it, its callers would have to change."
    )


def _may_await(source: Source, comp: cst.GeneratorExp, node: cst.CSTNode) -> bool:
    """Tell what the generator is made from, which the outer function evaluates, and a list."""
    iterable = comp.for_in.iter
    return (
        comp in source.made_lists
        or node is iterable
        or any(parent is iterable for parent, _ in source.ancestors(node))
    )


def enclosing_function(source: Source, node: cst.CSTNode) -> Function | None:
    """Return the function that *node* runs in; lambdas and comprehensions are looked through."""
    for parent, child in source.ancestors(node):
        if isinstance(parent, cst.FunctionDef) and child is parent.body:
            return parent
    return None


def enclosing_class(source: Source, node: cst.CSTNode) -> cst.ClassDef | None:
    """Return the class that the function *node* is a method of."""
    for parent, _ in source.ancestors(node):
        if isinstance(parent, cst.ClassDef):
            return parent
        if isinstance(parent, cst.FunctionDef):
            return None
    return None


# --- names -------------------------------------------------------------------------------------


def bindings(source: Source, name: cst.Name) -> list[Binding]:
    """Return all that the name may be bound to where it stands, in the innermost scope."""
    for parent, child in source.ancestors(name):
        if isinstance(parent, cst.Lambda) and child is parent.body and _takes(parent, name):
            return [_of_lambda(source, parent)]
        if isinstance(parent, cst.BaseComp):
            found = [b for each in _loops(parent) if (b := _of_loop(each, name.value))]
            if found:
                return found
        if isinstance(parent, cst.FunctionDef):
            found = list(_in_function(source, parent, name.value))
            if found:
                return found
    return []


def _takes(function: cst.Lambda, name: cst.Name) -> bool:
    return any(each.name.value == name.value for each in _parameters(function))


def _of_lambda(source: Source, function: cst.Lambda) -> Binding:
    """Return the rows that ``sorted(films, key=lambda film: …)`` hands on, one after the other."""
    arg = source.parent(function)
    call = source.parents.get(arg)
    if isinstance(call, cst.Call) and len(list(_parameters(function))) == 1:
        match call.func, call.args:
            case cst.Name(value="sorted" | "min" | "max"), [first, *more] if all(
                each.keyword for each in more
            ):
                return Binding(function, None if first.star else first.value, True)
            case cst.Name(value="map" | "filter"), [first, second] if arg is first:
                return Binding(function, None if second.star else second.value, True)
            case cst.Attribute(value=rows, attr=cst.Name(value="sort")), [_]:
                return Binding(function, rows, True)
    return Binding(function, None)


def _loops(comp: cst.BaseComp) -> Iterator[cst.CompFor]:
    loop = getattr(comp, "for_in", None)
    while loop is not None:
        yield loop
        loop = loop.inner_for_in


def _of_loop(loop: cst.CompFor | cst.For, name: str) -> Binding | None:
    if isinstance(loop.target, cst.Name):
        return Binding(loop, loop.iter, True) if loop.target.value == name else None
    if _is_counted(loop, name):
        return Binding(loop, loop.iter, True)
    return Binding(loop, None) if name in _names(loop.target) else None


def _is_counted(loop: cst.CompFor | cst.For, name: str) -> bool:
    """Tell ``film`` of ``for number, film in enumerate(films)``."""
    match loop.target, loop.iter:
        case (
            cst.Tuple(elements=[_, cst.Element(value=cst.Name(value=found))]),
            cst.Call(func=cst.Name(value="enumerate")),
        ):
            return found == name
    return False


def _in_function(source: Source, function: Function, name: str) -> Iterator[Binding]:
    for parameter in _parameters(function):
        if parameter.name.value == name:
            yield Binding(parameter, None)
    for node in own_nodes(function.body):
        yield from _bound_by(node, name)


def _parameters(function: Function | cst.Lambda) -> Iterator[cst.Param]:
    params = function.params
    yield from (*params.posonly_params, *params.params, *params.kwonly_params)
    for star in (params.star_arg, params.star_kwarg):
        if isinstance(star, cst.Param):
            yield star


def own_nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield what is in a function's body, without the functions and classes in it."""
    yield node
    if isinstance(node, cst.FunctionDef | cst.ClassDef | cst.Lambda | cst.BaseComp):
        if isinstance(node, cst.BaseComp):  # its loops are its own, a walrus is not
            yield from (each for each in _everything(node) if isinstance(each, cst.NamedExpr))
        return
    for child in node.children:
        yield from own_nodes(child)


def _everything(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _everything(child)


def _bound_by(node: cst.CSTNode, name: str) -> Iterator[Binding]:
    if isinstance(node, cst.Assign):
        for target in node.targets:
            yield from _target(node, target.target, node.value, name)
    elif isinstance(node, cst.AnnAssign | cst.NamedExpr):
        yield from _target(node, node.target, node.value, name)
    elif isinstance(node, cst.For):
        if found := _of_loop(node, name):
            yield found
    elif isinstance(node, cst.FunctionDef | cst.ClassDef):
        if node.name.value == name or _gives(node, name):
            yield Binding(node, None)
    elif name in _other_names(node):
        yield Binding(node, None)


def _gives(node: cst.CSTNode, name: str) -> bool:
    """Tell an inner function that says ``nonlocal name``."""
    found = (each for each in _everything(node) if isinstance(each, cst.Nonlocal))
    return any(item.name.value == name for each in found for item in each.names)


def _target(
    node: cst.CSTNode, target: cst.BaseExpression, value: cst.BaseExpression | None, name: str
) -> Iterator[Binding]:
    if isinstance(target, cst.Name):
        if target.value == name:
            yield Binding(node, value)
    elif name in _names(target):
        yield Binding(node, None)


def _other_names(node: cst.CSTNode) -> set[str]:
    """Return the names that a statement of the rarer kinds binds or unbinds."""
    match node:
        case cst.AugAssign(target=target) | cst.Del(target=target):
            return _names(target)
        case cst.AsName(name=target):
            return _names(target)
        case cst.ImportAlias(asname=None, name=cst.Name(value=name)):
            return {name}
        case cst.Global(names=items) | cst.Nonlocal(names=items):
            return {item.name.value for item in items}
        case cst.MatchAs(name=cst.Name(value=name)) | cst.MatchStar(name=cst.Name(value=name)):
            return {name}
        case cst.MatchMapping(rest=cst.Name(value=name)):
            return {name}
    return set()


def _names(target: cst.CSTNode) -> set[str]:
    """Return the names that an assignment to *target* binds."""
    match target:
        case cst.Name(value=name):
            return {name}
        case cst.Attribute() | cst.Subscript():
            return set()
    return {name for child in target.children for name in _names(child)}


def bound_names(node: cst.CSTNode) -> set[str]:
    """Return all names that are bound in *node*, in its own scope."""
    found: set[str] = set()
    for each in own_nodes(node):
        match each:
            case cst.Assign(targets=targets):
                found.update(*(_names(target.target) for target in targets))
            case cst.AnnAssign(target=target) | cst.NamedExpr(target=target):
                found |= _names(target)
            case cst.For(target=target):
                found |= _names(target)
            case cst.FunctionDef(name=name) | cst.ClassDef(name=name):
                found |= {name.value}
            case _:
                found |= _other_names(each)
    return found


def read_names(node: cst.CSTNode) -> set[str]:
    """Return every name that occurs in *node*, attributes and keywords not counted."""
    match node:
        case cst.Name(value=name):
            return {name}
        case cst.Attribute(value=value):
            return read_names(value)
        case cst.Arg(value=value):
            return read_names(value)
    return {name for child in node.children for name in read_names(child)}
