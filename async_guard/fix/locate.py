"""
Finds the expression of a hit in the checkout, and is sure that it is the one.

A function may have moved within its file since the log was written, but it must not have changed:
its digest is compared first. Then the text and the columns say which expression it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import libcst as cst

from async_guard.callsite import MAX_TEXT, clean
from async_guard.fix.checkout import Checkout, Source, qualname
from async_guard.fix.refusal import Changed, Refused
from async_guard.hit import Hit

_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Place:
    """A hit and the node that stands where it happened."""

    hit: Hit
    checkout: Checkout
    source: Source
    node: cst.CSTNode
    """The expression, or for a hit without a line of its own the statement that stands for it."""
    parents: tuple[str, ...] = ()
    """The GraphQL fields that produced the object, of all hits of this fingerprint."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The lines that a code object was made from."""

    node: cst.CSTNode
    first: int
    last: int


def locate(hit: Hit, checkout: Checkout, parents: tuple[str, ...] = ()) -> Place:
    """Return the place of *hit*, or refuse where the checkout has other code."""
    source = checkout.find(hit.path, hit.function)
    if hit.on_stack:
        node = _expression(hit, source, _scope(hit, checkout, source))
    else:
        node = _definition(hit, checkout, source)
    return Place(hit, checkout, source, node, parents)


# --- the function ------------------------------------------------------------------------------


def _scope(hit: Hit, checkout: Checkout, source: Source) -> Scope:
    named = _named(hit, checkout, source)
    if not named:
        raise Refused(f"{hit.function} is not in {source.name} any more.")
    if not hit.digest:
        raise Refused(f"The log does not say what the code of {hit.function} was.")
    same = [each for node in named if (each := _with_digest(source, node, hit.digest))]
    if not same:
        raise Changed(f"{hit.function} has changed since the log was written.")
    if len(same) > 1:
        same = [each for each in same if each.first <= hit.line <= each.last]
    if not same:
        raise Refused(f"{source.name} has {hit.function} more than once.")
    return same[-1]


def _named(hit: Hit, checkout: Checkout, source: Source) -> list[cst.CSTNode]:
    """Return what has the qualified name of the hit: functions, lambdas, comprehensions."""
    name = qualname(source.path, hit.function, checkout.root)
    return [node for node, its_name in qualified(source) if its_name == name]


def qualified(source: Source) -> Iterator[tuple[cst.CSTNode, tuple[str, ...]]]:
    """Yield all that becomes a code object, with its name without ``<locals>``."""
    if source not in _QUALIFIED:
        _QUALIFIED[source] = list(_qualified(source.module, ()))
    yield from _QUALIFIED[source]


_QUALIFIED: WeakKeyDictionary[Source, list[tuple[cst.CSTNode, tuple[str, ...]]]] = (
    WeakKeyDictionary()
)


def _qualified(
    node: cst.CSTNode, name: tuple[str, ...]
) -> Iterator[tuple[cst.CSTNode, tuple[str, ...]]]:
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        name = (*name, node.name.value)
        yield node, name
    elif isinstance(node, cst.Lambda):
        name = (*name, "<lambda>")
        yield node, name
    elif isinstance(node, _COMPREHENSIONS):
        yield node, name
    for child in node.children:
        yield from _qualified(child, name)


def _with_digest(source: Source, node: cst.CSTNode, digest: str) -> Scope | None:
    """Return the scope if its lines, up to the last that has code, are those of the log."""
    first, hashed = source.first_line(node), hashlib.sha256()
    for last in range(first, source.last_line(node) + 1):
        hashed.update(source.lines[last - 1].encode("utf-8", "replace"))
        if hashed.hexdigest()[:16] == digest:
            return Scope(node, first, last)
    return None


# --- the expression ----------------------------------------------------------------------------


def _expression(hit: Hit, source: Source, scope: Scope) -> cst.CSTNode:
    if hit.column is None or hit.end_line is None or hit.end_column is None:
        raise Refused("The log has the line, not the columns: the expression cannot be told.")
    line = _line(hit, source, scope)
    shift = line - hit.line
    start, end = (line, hit.column - 1), (hit.end_line + shift, hit.end_column - 1)
    node = _node_at(source, start, end, hit)
    if node is None and hit.text.startswith("with "):
        raise Refused("The block opens more than the transaction or the cursor.")
    if node is None:
        raise Refused(f"What stands at {source.name}:{line} is no expression of its own.")
    return node


def _line(hit: Hit, source: Source, scope: Scope) -> int:
    """Return the line that the expression is on now."""
    found = [
        line
        for line in range(scope.first, scope.last + 1)  # it may end behind: a bracket is no code
        if _is_text(hit.text, _text_at(hit, source, line))
    ]
    if hit.line in found:
        return hit.line
    if not found:
        raise Changed(f"{hit.function} has changed since the log was written.")
    if len(found) > 1:
        raise Refused(f"{source.name} has moved, and has this expression more than once.")
    return found[0]


def _text_at(hit: Hit, source: Source, line: int) -> str:
    assert hit.column is not None and hit.end_line is not None and hit.end_column is not None
    lines = source.lines[line - 1 : hit.end_line - hit.line + line]
    if not lines:
        return ""
    lines[-1] = lines[-1][: hit.end_column - 1]
    lines[0] = lines[0][hit.column - 1 :]
    return clean("".join(lines))


def _is_text(logged: str, found: str) -> bool:
    """Compare without indentation, which the log has not, and as far as the log goes."""
    wanted, text = "".join(logged.split()), "".join(found.split())
    return text == wanted or (len(logged) >= MAX_TEXT and text.startswith(wanted))


def _node_at(
    source: Source, start: tuple[int, int], end: tuple[int, int], hit: Hit
) -> cst.CSTNode | None:
    found = None
    for node, where in source.positions.items():
        if (where.end.line, where.end.column) == end:
            if (where.start.line, where.start.column) == start:
                if (expression := _as_expression(node, hit)) is not None:
                    return expression
            elif isinstance(node, cst.Call) and _method_start(source, node) == start:
                found = node  # of a chain over several lines, CPython names the last method only
    return found


def _as_expression(node: cst.CSTNode, hit: Hit) -> cst.BaseExpression | None:
    if isinstance(node, cst.AugAssign) and hit.rule == "AG106":
        return node.value  # the list of ``titles += films`` reads the rows of what is added
    if isinstance(node, cst.FormattedStringExpression):
        return node.expression  # with its braces, from Python 3.12 on
    return node if isinstance(node, cst.BaseExpression) else None


def _method_start(source: Source, call: cst.Call) -> tuple[int, int] | None:
    if not isinstance(call.func, cst.Attribute):
        return None
    start = source.positions[call.func.attr].start
    return start.line, start.column


# --- what stands for a hit that has no line of the project -------------------------------------


def _definition(hit: Hit, checkout: Checkout, source: Source) -> cst.CSTNode:
    """Return the statement on the line that the log names: an annotation, a ``return``."""
    if hit.digest is not None:
        scope = _scope(hit, checkout, source)
        inside: list[cst.CSTNode] = list(source.below(scope.node))
    else:
        inside = source.nodes
    found = [each for each in inside if _is_statement(each, hit, source)]
    if len(found) > 1:
        found = [each for each in found if source.positions[each].start.line == hit.line]
    if len(found) != 1:
        raise Changed(f"{hit.function} has changed since the log was written.")
    return found[0]


def _is_statement(node: cst.CSTNode, hit: Hit, source: Source) -> bool:
    if isinstance(node, cst.SimpleStatementLine):
        line = source.lines[source.positions[node].start.line - 1].split("  #", 1)[0].strip()
        return clean(line)[:MAX_TEXT] == hit.text and _is_in_class(node, hit, source)
    return False


def _is_in_class(node: cst.CSTNode, hit: Hit, source: Source) -> bool:
    """Tell whether an annotation is in the class that the log names; a digest has said it else."""
    if hit.digest is not None:
        return True
    names = [
        parent.name.value
        for parent, _ in source.ancestors(node)
        if isinstance(parent, cst.ClassDef | cst.FunctionDef)
    ]
    return hit.function.split(".")[-2:-1] == names[:1]
