"""
Moves a block that holds a transaction or a cursor into one inner sync function.

::

    with transaction.atomic():              def in_transaction():
        film = await Film.objects.aget()        with transaction.atomic():
        await film.asave()              →           film = Film.objects.get()
    return film.title                               film.save()
                                                return film

                                            film = await sync_to_async(in_transaction)()
                                            return film.title
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import libcst as cst

from async_guard.advice import ASYNC_METHODS
from async_guard.fix import thread
from async_guard.fix.checkout import Source
from async_guard.fix.code import SYNC_TO_ASYNC, call, called_name, everything, is_sync_to_async
from async_guard.fix.edit import Edit
from async_guard.fix.locate import Place
from async_guard.fix.refusal import NotHere, Refused
from async_guard.fix.scope import Function, awaiting_function, bound_names, own_nodes, read_names

_TRANSACTIONS = {"atomic"}


def inner_function(place: Place) -> list[Edit]:
    """Make a sync function of the ``with`` block that the expression opens."""
    source = place.source
    block = block_opened_by(source, place.node)
    if block is None:
        raise Refused("All that belongs to it has to move to a thread, and that is not one block.")
    return [moved_block(source, block)]


def caller_in_thread(place: Place) -> list[Edit]:
    """Move the call of the sync function that has the whole block in it, or is decorated."""
    is_whole = block_opened_by(place.source, place.node) or thread.is_opened_by_decorator(place.hit)
    if not is_whole:
        raise NotHere("Where the transaction ends is not sure.")
    return thread.caller_in_thread(place)


def block_opened_by(source: Source, node: cst.CSTNode) -> cst.With | None:
    item = source.parent(node)
    block = source.parent(item) if isinstance(item, cst.WithItem) else None
    return block if isinstance(block, cst.With) else None


def transaction_around(source: Source, node: cst.CSTNode) -> cst.With | None:
    """Return the outermost ``with transaction.atomic():`` of the same function around *node*."""
    found = None
    for parent, child in source.ancestors(node):
        if isinstance(parent, cst.FunctionDef | cst.Lambda | cst.ClassDef):
            break
        if isinstance(parent, cst.With) and child is parent.body and _is_atomic(parent):
            found = parent
    return found


def _is_atomic(block: cst.With) -> bool:
    return any(called_name(item.item) in _TRANSACTIONS for item in block.items)


def moved_block(source: Source, block: cst.With) -> Edit:
    function = awaiting_function(source, block)
    if block.asynchronous is not None or len(block.items) != 1:
        raise Refused("The block opens more than the transaction or the cursor.")
    _check(source, block)
    name = _new_name(function, "in_transaction" if _is_atomic(block) else "in_thread")
    returns = _always_returns(block)
    outer = _names_outside(source, function, block)
    _check_handlers(source, function, block, outer)
    results = [] if returns else sorted(_bound(block) & outer.used - outer.bound)
    _check_results(block, results)
    shared = sorted(_bound(block) & outer.bound)
    body = _sync(source, block)
    inner = _definition(name, body, results, shared)
    line = _call_line(name, results, returns)

    def change(updated: cst.With) -> cst.FlattenSentinel[cst.BaseStatement]:
        return cst.FlattenSentinel([inner.with_changes(leading_lines=updated.leading_lines), line])

    return Edit(source, block, change, imports=(SYNC_TO_ASYNC,))


# --- may it move -------------------------------------------------------------------------------


def _check(source: Source, block: cst.With) -> None:
    for node in own_nodes(block):
        if isinstance(node, cst.Yield):
            raise Refused("The block yields, so it cannot become a function.")
        if isinstance(node, cst.Break | cst.Continue) and not _is_in_loop(source, node, block):
            raise Refused("The block leaves the loop around it, so it cannot become a function.")
        if isinstance(node, cst.Global | cst.Nonlocal):
            raise Refused("The block declares names of another scope.")
        if isinstance(node, cst.Return) and not _is_last(node, block):
            raise Refused("The block returns from its middle, so it cannot become a function.")
        if isinstance(node, cst.Del):
            raise Refused("The block deletes names, so it cannot become a function.")
    if "asyncio" in read_names(block):
        raise Refused("The block uses asyncio, which is not only the ORM.")
    for node in everything(block):
        if called_name(node) == "super" and isinstance(node, cst.Call) and not node.args:
            raise Refused("The block asks super(), which an inner function cannot do.")


def _is_in_loop(source: Source, node: cst.CSTNode, block: cst.With) -> bool:
    inside = takewhile(
        lambda parent: parent is not block, (each for each, _ in source.ancestors(node))
    )
    return any(isinstance(parent, cst.For | cst.While) for parent in inside)


def _last_line(block: cst.With) -> cst.CSTNode | None:
    line = block.body.body[-1]
    return line.body[-1] if isinstance(line, cst.SimpleStatementLine) else None


def _is_last(node: cst.CSTNode, block: cst.With) -> bool:
    return node is _last_line(block)


def _always_returns(block: cst.With) -> bool:
    return isinstance(_last_line(block), cst.Return)


def _check_results(block: cst.With, results: Sequence[str]) -> None:
    """Refuse where a name may be unbound at the end: returning it would raise."""
    sure: set[str] = set()
    for line in block.body.body:
        if isinstance(line, cst.SimpleStatementLine):
            sure |= bound_names(line)
    if missing := sorted(set(results) - sure):
        raise Refused(f"Whether {missing[0]} always has a value after the block is not sure.")


def _check_handlers(source: Source, function: Function, block: cst.With, outer: _Outside) -> None:
    """Refuse what runs when the block fails and reads its names: none are returned then."""
    for parent, child in takewhile(lambda pair: pair[0] is not function, source.ancestors(block)):
        if isinstance(parent, cst.Try | cst.TryStar) and child is parent.body:
            later = (*parent.handlers, *([parent.finalbody] if parent.finalbody else []))
            read = {name for each in later for name in read_names(each)}
            if names := sorted(_bound(block) & read - outer.bound):
                raise Refused(f"What handles an error of the block reads {names[0]}.")


# --- names -------------------------------------------------------------------------------------


class _Outside:
    """The names of a function outside of one block."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.used: set[str] = set()


def _names_outside(source: Source, function: Function, block: cst.With) -> _Outside:
    found = _Outside()
    rest = function.body.deep_replace(block, cst.SimpleStatementLine([cst.Pass()]))
    assert isinstance(rest, cst.CSTNode)
    params = {
        each.name.value for each in everything(function.params) if isinstance(each, cst.Param)
    }
    found.bound = bound_names(rest) | params
    found.used = read_names(rest)
    return found


def _bound(block: cst.With) -> set[str]:
    return bound_names(block)


def _new_name(function: Function, wanted: str) -> str:
    taken = read_names(function)
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


# --- the function ------------------------------------------------------------------------------


def _sync(source: Source, block: cst.With) -> cst.With:
    """Return the block with the sync twins of what it awaits."""
    changed = block.deep_clone().with_changes(leading_lines=()).visit(_Sync(source))
    assert isinstance(changed, cst.With)
    return changed


class _Sync(cst.CSTTransformer):
    """``await x.aget(…)`` → ``x.get(…)``; what has no sync twin is refused."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def leave_Await(self, original_node: cst.Await, updated_node: cst.Await) -> cst.BaseExpression:
        awaited = updated_node.expression
        lpar, rpar = (*updated_node.lpar, *awaited.lpar), (*awaited.rpar, *updated_node.rpar)
        name = called_name(awaited)
        if isinstance(awaited, cst.Call) and isinstance(awaited.func, cst.Attribute):
            twin = awaited.func.attr.value.removeprefix("a")
            if name == f"a{twin}" and twin in ASYNC_METHODS:
                method = awaited.func.with_changes(attr=cst.Name(twin))
                return _bare(awaited.with_changes(func=method, lpar=lpar, rpar=rpar))
        if isinstance(awaited, cst.Call) and is_sync_to_async(self._source, awaited.func):
            assert isinstance(awaited.func, cst.Call)
            if len(awaited.func.args) == 1:
                func = awaited.func.args[0].value
                return _bare(awaited.with_changes(func=func, lpar=lpar, rpar=rpar))
        what = cst.Module([]).code_for_node(awaited.with_changes(lpar=[], rpar=[]))
        raise Refused(f"The block awaits {what.split('(')[0]}, which is not only the ORM.")

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> cst.For:
        return updated_node.with_changes(asynchronous=None)

    def leave_CompFor(self, original_node: cst.CompFor, updated_node: cst.CompFor) -> cst.CompFor:
        return updated_node.with_changes(asynchronous=None)

    def visit_With(self, node: cst.With) -> None:
        if node.asynchronous is not None:
            raise Refused("The block has an async with in it, which is not only the ORM.")

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        if node.asynchronous is not None:
            raise Refused("The block defines an async function.")

    def visit_Lambda(self, node: cst.Lambda) -> bool:
        return False


def _bare(node: cst.Call) -> cst.Call:
    """Drop the parentheses that only the ``await`` needed."""
    code = cst.Module([]).code_for_node(node)
    return node if "\n" in code else node.with_changes(lpar=[], rpar=[])


def _definition(
    name: str, body: cst.With, results: Sequence[str], shared: Sequence[str]
) -> cst.FunctionDef:
    lines: list[cst.BaseStatement] = []
    if shared:
        names = [cst.NameItem(cst.Name(each)) for each in shared]
        lines.append(cst.SimpleStatementLine([cst.Nonlocal(names)]))
    lines.append(body)
    if results:
        lines.append(cst.SimpleStatementLine([cst.Return(_tuple(results))]))
    return cst.FunctionDef(cst.Name(name), cst.Parameters(), cst.IndentedBlock(lines))


def _tuple(names: Sequence[str]) -> cst.Name | cst.Tuple:
    if len(names) == 1:
        return cst.Name(names[0])
    return cst.Tuple([cst.Element(cst.Name(each)) for each in names], lpar=[], rpar=[])


def _call_line(name: str, results: Sequence[str], returns: bool) -> cst.SimpleStatementLine:
    asked = cst.Await(cst.Call(call("sync_to_async", cst.Name(name))))
    statement: cst.BaseSmallStatement
    if returns:
        statement = cst.Return(asked)
    elif results:
        statement = cst.Assign([cst.AssignTarget(_tuple(results))], asked)
    else:
        statement = cst.Expr(asked)
    return cst.SimpleStatementLine([statement], leading_lines=[cst.EmptyLine(indent=False)])
