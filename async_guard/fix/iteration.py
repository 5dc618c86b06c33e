"""Evaluates a queryset with ``async for``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import libcst as cst

from async_guard.fix.certain import (
    is_endless,
    is_fresh,
    is_queryset,
    is_slice,
    is_standard,
    iterated,
    may_be_rows,
)
from async_guard.fix.checkout import Source
from async_guard.fix.code import (
    SYNC_TO_ASYNC,
    awaited,
    bare,
    call,
    called_name,
    everything,
    has,
    last_name,
)
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.queryset import queryset_of
from async_guard.fix.refusal import InGenerator, Refused
from async_guard.fix.scope import awaiting_function
from async_guard.fix.thread import rows_in_thread, threaded_access, threaded_call

_LISTS = {"list": cst.ListComp, "set": cst.SetComp}
_WHOLE = {"list", "tuple", "set", "frozenset", "dict", "len", "bool"}
_METHODS = {"len": "acount", "bool": "aexists"}
_CONSUMERS = {
    *("list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "enumerate", "iter"),
    *("sum", "max", "min", "any", "all", "str", "repr", "print", "len", "bool", "zip", "map"),
    *("filter", "deque", "Counter"),
}
_TAKING = {
    *("join", "extend", "extendleft", "update", "intersection_update", "difference_update"),
    *("symmetric_difference_update", "issubset", "issuperset", "isdisjoint"),
}


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
        return [_rows_in_place(source, each) for each in starred]
    if isinstance(node, cst.Call) and _is_consumer(source, node):
        return _consumer(place, node)
    loop = _loop_over(source, node)
    if loop is not None and not _is_part(place, node):
        return [_loop(place, loop, node)]
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        return _contains(source, node)
    if isinstance(node, cst.NamedExpr) and _is_test(source, node):
        return [_in_thread(source, node, "bool")]
    if place.hit.orm_operation == "bool" and not is_queryset(source, node):
        return [_truth(source, node)]
    if isinstance(node, cst.Subscript) and not is_slice(node):
        return [_index(source, node)]
    if place.hit.access != "raw_sql" and _asks_only(source, node):
        return [Edit(source, node, lambda old: awaited(source, node, _asked(old, "aexists")))]
    if is_queryset(source, node) or _is_iterated(source, node):
        return [_rows_in_place(source, node)]
    raise Refused(
        f"How {place.hit.text} evaluates a queryset in {function.name.value} is not sure."
    )


def _is_part(place: Place, node: cst.CSTNode) -> bool:
    """Tell ``books[::2]``, which asks before a loop does, from a queryset in ``shelves[0]``."""
    is_asked = place.hit.orm_operation == "slice"
    return is_asked and isinstance(node, cst.Subscript) and not is_slice(node)


def _asked_of(place: Place, node: cst.CSTNode) -> cst.CSTNode:
    """Return ``books`` of ``books or []``, ``not books`` and, up to Python 3.11, ``1 if books``."""
    parts = list(_conditions(node, _is_test(place.source, node)))
    found = [each for each in parts if _is_of(place, each)]
    if len(found) > 1:
        raise Refused(f"Which part of {place.hit.text} asked the database is not sure.")
    return found[0] if found else parts[0]


def _conditions(node: Any, is_test: bool) -> Iterator[cst.BaseExpression]:
    match node:
        case cst.BooleanOperation(left=left, right=right):
            yield from _conditions(left, True)
            if is_test:  # the last one is the value else
                yield from _conditions(right, True)
        case cst.IfExp(test=inner) | cst.UnaryOperation(operator=cst.Not(), expression=inner):
            yield from _conditions(inner, True)
        case _:
            yield node


def _asks_only(source: Source, node: cst.CSTNode) -> bool:
    """Tell whether rows are only asked for: a name may stand for them later."""
    is_chain = not isinstance(node, cst.Name)
    return is_chain and is_queryset(source, node) and _is_test(source, node)


def _is_iterated(source: Source, node: cst.CSTNode) -> bool:
    """Tell a name, and any call whose value a statement takes apart or adds."""
    parent = source.parent(node)
    is_taken_apart = isinstance(parent, cst.AugAssign) or (
        isinstance(parent, cst.Assign)
        and any(isinstance(each.target, cst.Tuple | cst.List) for each in parent.targets)
    )
    return isinstance(node, cst.Name | cst.Subscript) or is_taken_apart


def _truth(source: Source, node: cst.CSTNode) -> Edit:
    """Ask in a thread: what may be a list may be None as well, or anything else."""
    if _is_test(source, node):
        return _in_thread(source, node, "bool")
    whole = node
    while isinstance(source.parent(whole), cst.BooleanOperation):
        whole = source.parent(whole)
    if isinstance(whole, cst.BooleanOperation):
        return threaded_access(source, whole)
    raise Refused(f"What is done with the truth of {source.code(node)} is not sure.")


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


def _is_consumer(source: Source, node: cst.Call) -> bool:
    if is_standard(source, node.func):
        return True
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
        return _list_of(source, node)
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
    return not is_queryset(source, node)


# --- calls and operators -----------------------------------------------------------------------


def _consumer(place: Place, node: cst.Call) -> list[Edit]:
    source, name = place.source, called_name(node) or ""
    arguments = iterated(source, node)
    if not arguments:
        raise Refused(f"Which argument of {place.hit.text} is the queryset is not sure.")
    argument = arguments[0]
    if isinstance(argument, cst.GeneratorExp):
        loop = argument.for_in
        if loop.inner_for_in is not None:
            raise Refused(f"Which loop of {place.hit.text} asked the database is not sure.")
        return [_loop(place, loop, loop.iter)]
    is_alone = isinstance(node.func, cst.Name) and len(node.args) == 1
    if _may_be_a_list(source, argument) or (is_alone and _has_comments(node)):
        if is_alone and name in _WHOLE:
            return [replace(threaded_call(source, node), is_fallback=True)]
        return [_list_of(source, argument)]
    if is_alone and name in _LISTS:
        kind = _LISTS[name]
        return [Edit(source, node, lambda old: _kept(old, rows(old.args[0].value, kind)))]
    method = _METHODS.get(name)
    if method and place.hit.access != "raw_sql" and not isinstance(argument, cst.Name):
        return [Edit(source, node, lambda old: awaited(source, node, _counted(old, method)))]
    return [Edit(source, each, rows) for each in arguments]


def _has_comments(node: cst.Call) -> bool:
    """Tell whether the parentheses of the call hold some, which it has to keep them for."""
    [arg] = node.args
    layout = (node.whitespace_before_args, arg.comma, arg.whitespace_after_arg)
    return any(isinstance(each, cst.CSTNode) and has(each, cst.Comment) for each in layout)


def _list_of(source: Source, node: cst.CSTNode) -> Edit:
    """Read all rows in a thread, if there is an end of them."""
    if is_endless(node):
        raise Refused(f"Whether {source.code(node)} ever ends is not sure.")
    return rows_in_thread(source, node)


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
    """Tell what only the truth of matters."""
    parent = source.parent(node)
    match parent:
        case cst.If(test=test) | cst.While(test=test) | cst.IfExp(test=test):
            return test is node
        case cst.Assert(test=test) | cst.CompIf(test=test):
            return test is node
        case cst.UnaryOperation(operator=cst.Not()):
            return True
        case cst.BooleanOperation():
            return _is_test(source, parent)
    return False


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
            return _in_thread(source, node, "str")
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


def _starred(node: cst.CSTNode) -> list[cst.BaseExpression]:
    """Return what may be rows of ``[*books]`` and ``max(*books)``."""
    match node:
        case cst.List(elements=items) | cst.Tuple(elements=items) | cst.Set(elements=items):
            found = [each.value for each in items if isinstance(each, cst.StarredElement)]
        case cst.Call(args=args):
            found = [each.value for each in args if each.star == "*"]
        case _:
            found = []
    return [each for each in found if may_be_rows(each)]


def _in_thread(source: Source, node: cst.CSTNode, function: str) -> Edit:
    """``if found := books`` → ``if await sync_to_async(bool)(found := books)``: it has its rows."""

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        return awaited(source, node, call(call("sync_to_async", cst.Name(function)), bare(updated)))

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
        or not is_fresh(node.value)
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
    source = place.source
    awaiting_function(source, line)
    statement = line.body[0]
    if place.hit.access != "queryset" or not isinstance(statement, cst.Return):
        raise Refused("What was returned was evaluated by the framework, not in a line of code.")
    value = statement.value
    if not isinstance(value, cst.Call | cst.Subscript) or not is_queryset(source, value):
        raise Refused("Whether a queryset is returned here is not sure.")
    return [Edit(source, value, lambda old: _kept(old, rows(old)))]
