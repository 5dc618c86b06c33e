"""Evaluates a queryset with ``async for``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from async_guard.fix.checkout import Source
from async_guard.fix.code import (
    SYNC_TO_ASYNC,
    awaited,
    bare,
    call,
    called_name,
    everything,
    last_name,
)
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.queryset import is_manager, queryset_of
from async_guard.fix.refusal import InGenerator, Refused
from async_guard.fix.scope import Binding, awaiting_function, bindings
from async_guard.fix.thread import rows_in_thread, threaded_access, threaded_call

_LISTS = {"list": cst.ListComp, "set": cst.SetComp}
_METHODS = {"len": "acount", "bool": "aexists"}
_CONSUMERS = {
    *("list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "enumerate", "iter"),
    *("sum", "max", "min", "any", "all", "str", "repr", "print", "len", "bool", "zip", "map"),
    *("filter", "deque", "Counter"),
}
_TAKING = {"join", "extend"}


def async_iteration(place: Place) -> list[Edit]:
    """Evaluate with ``async for`` what the hit evaluates, in the way it is written."""
    source, node = place.source, place.node
    if isinstance(node, cst.SimpleStatementLine):
        return _returned(place, node)
    function = awaiting_function(source, node)
    node = _unpacked(source, node)
    if place.hit.orm_operation == "repr":
        return [_shown(source, node)]
    if place.hit.orm_operation == "bool":
        node = _asked_of(place, node)
    if starred := _starred(node):
        return [_rows_in_place(source, starred)]
    if isinstance(node, cst.Call) and _is_consumer(node):
        return _consumer(place, node)
    loop = _loop_over(source, node)
    if loop is not None and not _is_part(place, node):
        return [_loop(place, loop, node)]
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        return _contains(source, node)
    if isinstance(node, cst.Subscript) and not _is_slice(node):
        return [_index(source, node)]
    if isinstance(node, cst.NamedExpr) and _is_test(source, node):
        return [_tested(source, node)]
    if place.hit.access != "raw_sql" and _asks_only(source, node):
        return [Edit(source, node, lambda old: awaited(source, node, _asked(old, "aexists")))]
    if _is_queryset(node) or isinstance(node, cst.Name | cst.Subscript):
        return [_rows_in_place(source, node)]
    raise Refused(
        f"How {place.hit.text} evaluates a queryset in {function.name.value} is not sure."
    )


def _is_part(place: Place, node: cst.CSTNode) -> bool:
    """Tell ``books[::2]``, which asks before a loop does, from a queryset in ``shelves[0]``."""
    is_asked = place.hit.orm_operation == "slice"
    return is_asked and isinstance(node, cst.Subscript) and not _is_slice(node)


def _is_slice(node: cst.Subscript) -> bool:
    """Tell a part that is a queryset again: with a step it is a list."""
    index = node.slice[0].slice if len(node.slice) == 1 else None
    return isinstance(index, cst.Slice) and index.step is None


def _asked_of(place: Place, node: cst.CSTNode) -> cst.CSTNode:
    """Return ``books`` of ``books or []``, ``not books`` and, up to Python 3.11, ``1 if books``."""
    parts = list(_conditions(node))
    found = [each for each in parts if _is_of(place, each)]
    if len(found) > 1:
        raise Refused(f"Which part of {place.hit.text} asked the database is not sure.")
    return found[0] if found else parts[0]


def _conditions(node: Any) -> Iterator[cst.BaseExpression]:
    match node:
        case cst.BooleanOperation(left=left, right=right):
            yield from (*_conditions(left), *_conditions(right))
        case cst.IfExp(test=inner):
            yield from _conditions(inner)
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            yield from _conditions(inner)
        case _:
            yield node


def _asks_only(source: Source, node: cst.CSTNode) -> bool:
    """Tell whether rows are only asked for, and not there yet: else a slice of them is a list."""
    is_fresh = not isinstance(node, cst.Subscript) or not _may_be_a_list(source, node)
    return _is_queryset(node) and _is_test(source, node) and is_fresh


def rows(queryset: cst.BaseExpression, kind: type = cst.ListComp) -> cst.BaseExpression:
    """Return ``[row async for row in queryset]``."""
    loop = cst.CompFor(
        cst.Name("row"),
        _aiterator(bare(queryset)),
        asynchronous=cst.Asynchronous(),
    )
    found: cst.BaseExpression = kind(cst.Name("row"), loop)
    return found


def _aiterator(queryset: cst.BaseExpression) -> cst.BaseExpression:
    """``books.iterator()`` → ``books.aiterator()``."""
    match queryset:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="iterator")) as method):
            return queryset.with_changes(func=method.with_changes(attr=cst.Name("aiterator")))
    return queryset


def _is_consumer(node: cst.Call) -> bool:
    names = _CONSUMERS if isinstance(node.func, cst.Name) else _TAKING
    return called_name(node) in names


def _unpacked(source: Source, node: cst.CSTNode) -> cst.CSTNode:
    """Return ``books`` for the target of ``first, second = books``."""
    target = source.parent(node)
    if isinstance(node, cst.Tuple | cst.List) and isinstance(target, cst.AssignTarget):
        statement = source.parent(target)
        assert isinstance(statement, cst.Assign)
        return statement.value
    return node


def meant_iterable(place: Place) -> cst.CSTNode:
    """Return the iterable that was meant: CPython names the first of a comprehension's loops."""
    node = place.node
    loop = place.source.parent(node)
    if not isinstance(loop, cst.CompFor) or loop.iter is not node or loop.inner_for_in is None:
        return node
    loops = [loop]
    while (inner := loops[-1].inner_for_in) is not None:
        loops.append(inner)
    found = [each.iter for each in loops if _is_of(place, each.iter)]
    if len(found) != 1:
        raise Refused("Which loop of the comprehension asked the database is not sure.")
    return found[0]


def _is_of(place: Place, iterable: cst.BaseExpression) -> bool:
    """Tell whether an iterable is of the relation, or the model, that was asked for."""
    if place.hit.relation is not None:
        names = [last_name(each) for each in everything(iterable)]
        return place.hit.orm_field in names
    model = (place.hit.orm_model or "").rsplit(".", 1)[-1]
    try:
        return queryset_of(place.source, iterable).model == model
    except Refused:
        return False


# --- loops -------------------------------------------------------------------------------------


def is_looped_over(place: Place) -> bool:
    return _loop_over(place.source, place.node) is not None


def _loop_over(source: Source, node: cst.CSTNode) -> cst.For | cst.CompFor | None:
    loop = source.parent(node)
    return loop if isinstance(loop, cst.For | cst.CompFor) and loop.iter is node else None


def _loop(place: Place, loop: cst.For | cst.CompFor, node: cst.CSTNode) -> Edit:
    source = place.source
    if place.hit.orm_operation == "bool":
        raise Refused("Which condition of the comprehension asked the database is not sure.")
    if _may_be_a_list(source, node):
        awaiting_function(source, node)
        return rows_in_thread(source, node)
    generator = _generator_of(source, loop)
    if generator is not None and generator not in source.made_lists:
        raise InGenerator(generator)

    def change(updated: cst.For | cst.CompFor) -> cst.CSTNode:
        return updated.with_changes(asynchronous=cst.Asynchronous(), iter=_aiterator(updated.iter))

    is_of_a_row = place.hit.relation is not None  # which may be one of many
    return Edit(source, loop, change, ("async",), is_fallback=is_of_a_row)


def _generator_of(source: Source, loop: cst.For | cst.CompFor) -> cst.GeneratorExp | None:
    parent: cst.CSTNode = loop
    while isinstance(parent, cst.CompFor):
        parent = source.parent(parent)
    return parent if isinstance(parent, cst.GeneratorExp) else None


def _may_be_a_list(source: Source, node: cst.CSTNode) -> bool:
    """Tell whether it may be a list on another way, which ``async for`` refuses."""
    if isinstance(node, cst.Subscript):
        return not _is_queryset(node) or not _is_fresh(node)  # a slice of rows is a list
    if not isinstance(node, cst.Name):
        return not _is_queryset(node)
    found = bindings(source, node)
    return not found or not all(_binds_queryset(source, each) for each in found)


def _binds_queryset(source: Source, binding: Binding) -> bool:
    value = binding.value
    if binding.is_element or value is None:
        return False
    if isinstance(value, cst.Name):
        return not _may_be_a_list(source, value)
    return _is_queryset(value)


_NO_QUERYSET = {"list", "tuple", "set", "sorted", "dict", "reversed", "sync_to_async"}


def _is_queryset(node: cst.CSTNode | None) -> bool:
    """Tell whether *node* reads like a queryset: a chain of methods, or a part of one."""
    match node:
        case cst.Subscript(value=value):
            return _is_queryset(value)
        case cst.Call(func=cst.Attribute(value=value)):
            return not isinstance(value, cst.SimpleString)
        case cst.Call(func=cst.Call()):
            return False
    return False


def _is_fresh(node: cst.BaseExpression) -> bool:
    """Tell whether *node* makes a queryset of a manager, which no rows can be in yet."""
    while isinstance(node, cst.Call | cst.Attribute | cst.Subscript):
        if isinstance(node, cst.Attribute) and is_manager(node.attr.value):
            return True
        node = node.func if isinstance(node, cst.Call) else node.value
    return False


# --- calls and operators -----------------------------------------------------------------------


def _consumer(place: Place, node: cst.Call) -> list[Edit]:
    source, name = place.source, called_name(node) or ""
    at = _queryset_argument(place, node)
    argument = node.args[at]
    if isinstance(argument.value, cst.GeneratorExp):
        loop = argument.value.for_in
        if loop.inner_for_in is not None:
            raise Refused(f"Which loop of {place.hit.text} asked the database is not sure.")
        return [_loop(place, loop, loop.iter)]
    if _may_be_a_list(source, argument.value):
        edit = rows_in_thread(source, argument.value)
        return [edit if name != "list" or len(node.args) > 1 else _list_in_thread(source, node)]
    if isinstance(node.func, cst.Name) and name in _LISTS and len(node.args) == 1:
        kind = _LISTS[name]
        return [Edit(source, node, lambda old: _kept(old, rows(old.args[0].value, kind)))]
    method = _METHODS.get(name)
    if method and place.hit.access != "raw_sql" and not isinstance(argument.value, cst.Name):
        return [Edit(source, node, lambda old: awaited(source, node, _counted(old, method)))]
    return [Edit(source, argument.value, rows)]


def _list_in_thread(source: Source, node: cst.Call) -> Edit:
    def change(updated: cst.Call) -> cst.BaseExpression:
        moved = updated.with_changes(func=call("sync_to_async", updated.func))
        return awaited(source, node, moved)

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,), is_fallback=True)


def _kept(old: cst.BaseExpression, new: cst.BaseExpression) -> cst.BaseExpression:
    """Return *new* with the parentheses of *old*."""
    return new.with_changes(lpar=old.lpar, rpar=old.rpar) if old.lpar else new


def _counted(old: cst.Call, method: str) -> cst.Call:
    return _asked(old.args[0].value, method).with_changes(lpar=old.lpar, rpar=old.rpar)


def _asked(queryset: cst.BaseExpression, method: str) -> cst.Call:
    """Return ``queryset.aexists()``: the rows have no name, so nobody needs them later."""
    asked = cst.Call(cst.Attribute(queryset.with_changes(lpar=[], rpar=[]), cst.Name(method)))
    return asked.with_changes(lpar=queryset.lpar, rpar=queryset.rpar)


def _is_test(source: Source, node: cst.CSTNode) -> bool:
    match source.parent(node):
        case cst.If(test=test) | cst.While(test=test) | cst.IfExp(test=test):
            return test is node
        case cst.UnaryOperation(operator=cst.Not()):
            return True
    return False


def _queryset_argument(place: Place, node: cst.Call) -> int:
    """Return the index of the argument that is the queryset."""
    plain = [i for i, arg in enumerate(node.args) if arg.keyword is None and not arg.star]
    if len(plain) == 1:
        return plain[0]
    found = [i for i in plain if _is_queryset(node.args[i].value)]
    if len(found) != 1:
        raise Refused(f"Which argument of {place.hit.text} is the queryset is not sure.")
    return found[0]


def _contains(source: Source, node: cst.Comparison) -> list[Edit]:
    target = node.comparisons[0]
    if not isinstance(target.operator, cst.In | cst.NotIn):
        raise Refused("What this comparison evaluates is not sure.")
    return [_rows_in_place(source, target.comparator)]


def _rows_in_place(source: Source, node: cst.CSTNode) -> Edit:
    if _may_be_a_list(source, node):
        return rows_in_thread(source, node)
    return Edit(source, node, rows)


def _shown(source: Source, node: cst.CSTNode) -> Edit:
    """``print(books)`` → ``await sync_to_async(print)(books)``: rows in a list look otherwise."""
    parent = source.parent(node)
    if isinstance(parent, cst.Await):
        raise Refused("What is awaited shows a queryset, and may run anywhere.")
    if isinstance(parent, cst.FormattedStringExpression):
        if parent.conversion is None and parent.format_spec is None and parent.equal is None:
            return _formatted(source, node)
        node = source.parent(parent)
    if template := _template(source, node):
        return threaded_access(source, template)
    if isinstance(node, cst.Call):
        return threaded_call(source, node)
    if isinstance(node, cst.BaseExpression):
        return threaded_access(source, node)
    raise Refused("How the queryset is shown is not sure.")


def _template(source: Source, node: cst.CSTNode) -> cst.BinaryOperation | None:
    """Return ``"%s" % (books,)`` around ``books``, which CPython makes an f-string of."""
    parents = [parent for parent, _ in source.ancestors(node)][:3]
    match parents:
        case [cst.Element(), cst.Tuple() as values, cst.BinaryOperation(right=right) as found]:
            return found if right is values else None
    return None


def _formatted(source: Source, node: cst.CSTNode) -> Edit:
    """``f"{books}"`` → ``f"{await sync_to_async(str)(books)}"``."""

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        return awaited(source, node, call(call("sync_to_async", cst.Name("str")), bare(updated)))

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,))


def _starred(node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return ``books`` of ``[*books]`` and ``max(*books)``, if nothing else is unpacked there."""
    match node:
        case cst.List(elements=items) | cst.Tuple(elements=items) | cst.Set(elements=items):
            found = [each.value for each in items if isinstance(each, cst.StarredElement)]
        case cst.Call(args=args):
            found = [each.value for each in args if each.star == "*"]
        case _:
            found = []
    return found[0] if len(found) == 1 else None


def _tested(source: Source, node: cst.NamedExpr) -> Edit:
    """``if found := books`` → ``if await sync_to_async(bool)(found := books)``: it has its rows."""

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        return awaited(source, node, call(call("sync_to_async", cst.Name("bool")), bare(updated)))

    return Edit(source, node, change, imports=(SYNC_TO_ASYNC,))


def _index(source: Source, node: cst.Subscript) -> Edit:
    """
    ``Book.objects.all()[0]`` → ``[row async for row in Book.objects.all()[0:1]][0]``.

    So an IndexError stays one. Rows that may be there already are a list once they are sliced, so
    those are asked for in a thread.
    """
    index = node.slice[0].slice if len(node.slice) == 1 else None
    if (
        not isinstance(index, cst.Index)
        or not isinstance(index.value, cst.Integer)
        or not _is_fresh(node.value)
    ):
        return threaded_access(source, node)
    number = index.value.evaluated_value

    def change(updated: cst.Subscript) -> cst.BaseExpression:
        part = cst.parse_expression(f"x[{number}:{number + 1}]")
        assert isinstance(part, cst.Subscript)
        found = rows(part.with_changes(value=updated.value))
        first = cst.parse_expression("x[0]")
        assert isinstance(first, cst.Subscript)
        return first.with_changes(value=found, lpar=updated.lpar, rpar=updated.rpar)

    return Edit(source, node, change)


# --- what a function returned ------------------------------------------------------------------


def _returned(place: Place, line: cst.SimpleStatementLine) -> list[Edit]:
    """``return books`` → ``return [row async for row in books]``, where the framework iterated."""
    awaiting_function(place.source, line)
    statement = line.body[0]
    if place.hit.access != "queryset" or not isinstance(statement, cst.Return):
        raise Refused("What was returned was evaluated by the framework, not in a line of code.")
    if statement.value is None or not _is_queryset(statement.value):
        raise Refused("Whether a queryset is returned here is not sure.")
    return [Edit(place.source, statement.value, lambda old: _kept(old, rows(old)))]
