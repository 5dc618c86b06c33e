"""
The expression behind a position in a source file, the same on every Python version.

Interpreters disagree on which text an instruction belongs to: iterating over ``books`` in
``for b in books:`` is the whole statement up to 3.12 and ``books`` from 3.13 on; a truth test is
the whole ``if`` in 3.11. The fingerprint must not change with the interpreter, so both are
narrowed down to the part that was evaluated.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

PLACEHOLDER = "…"
_PLAIN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\(\))*", re.ASCII)
"""Names, attributes and calls without arguments: there is nothing to normalise."""
KNOWN = 1000
ATTEMPTS = 3
Result = TypeVar("Result")
_STATEMENTS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith)


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of source: its text, 1-based lines, 0-based columns in code points."""

    text: str
    line: int
    end_line: int
    column: int
    end_column: int


def core_expression(lines: list[str], where: tuple[int, int, int, int]) -> Expression:
    """
    Return the expression at *where*.

    Args:
        lines: of the file, as ``linecache`` gives them.
        where: line, end line, column, end column; columns 0-based in UTF-8 bytes, as CPython
            gives them.
    """
    line, end_line, column, end_column = where
    whole = Expression(
        _cut(lines, line, end_line, column, end_column),
        line,
        end_line,
        _points(lines, line, column),
        _points(lines, end_line, end_column),
    )
    if _is_statement(whole.text) or _is_comprehension(whole.text):
        return _narrowed(whole, _indentation(lines, whole)) or whole
    return whole


def _is_statement(text: str) -> bool:
    return text.startswith(("for ", "async ", "while ", "if ", "elif ", "with "))


def _is_comprehension(text: str) -> bool:
    return text.startswith(("[", "{", "(")) and " for " in " ".join(text.split())


def _indentation(lines: list[str], whole: Expression) -> str:
    """Return what stands before a statement: tabs would not line up with spaces."""
    before = lines[whole.line - 1][: whole.column]
    return before if not before.strip() else " " * whole.column


def _cut(lines: list[str], line: int, end_line: int, column: int, end_column: int) -> str:
    picked = [text.encode("utf-8", "surrogatepass") for text in lines[line - 1 : end_line]]
    if not picked:
        return ""
    picked[-1] = picked[-1][:end_column]
    picked[0] = picked[0][column:]
    return b"".join(picked).decode("utf-8", "replace")


def _points(lines: list[str], line: int, column: int) -> int:
    if not 0 < line <= len(lines):
        return column
    return len(lines[line - 1].encode("utf-8", "surrogatepass")[:column].decode("utf-8", "replace"))


def _narrowed(whole: Expression, indentation: str) -> Expression | None:
    """Parse the text as it stands in the file and return the part that is evaluated."""
    source, shift = whole.text, whole.column
    if _is_statement(whole.text):
        keyword = "if " if whole.text.startswith("elif ") else ""
        text = f"{indentation}{keyword}{whole.text.removeprefix('elif ')}"
        source = textwrap.dedent(text)
        dedented = len(text.split("\n", 1)[0]) - len(source.split("\n", 1)[0])
        shift = dedented + (2 if keyword else 0)
    where = attempted(_evaluated_at, source)
    if where is None:
        return None
    line, end_line, column, end_column = where
    lines = source.splitlines(keepends=True)
    below = (
        0 if _is_comprehension(whole.text) else shift
    )  # brackets keep later lines where they are
    return Expression(
        _cut(lines, *where),
        whole.line + line - 1,
        whole.line + end_line - 1,
        _points(lines, line, column) + (shift if line == 1 else below),
        _points(lines, end_line, end_column) + (shift if end_line == 1 else below),
    )


def attempted(parse: Callable[[str], Result | None], source: str) -> Result | None:
    """
    Return ``parse(source)``, None if the parser is in the way of itself.

    Up to Python 3.11 it cannot be entered twice: the one that a finaliser or another thread came
    in the middle of fails, so it may try again.
    """
    for _ in range(ATTEMPTS):
        with suppress(SystemError):
            return parse(source)
    return None


@lru_cache(KNOWN)
def _evaluated_at(source: str) -> tuple[int, int, int, int] | None:
    """Return line, end line, column, end column of what the statement in *source* evaluates."""
    try:
        node = _evaluated(ast.parse(source).body[0])
    except (SyntaxError, ValueError, IndexError):
        return None
    if node is None or node.end_lineno is None or node.end_col_offset is None:
        return None
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _evaluated(tree: ast.stmt) -> ast.expr | None:
    if isinstance(tree, ast.For | ast.AsyncFor):
        return tree.iter
    if isinstance(tree, ast.If | ast.While):
        return _tested(tree.test)
    if isinstance(tree, ast.With | ast.AsyncWith) and len(tree.items) == 1:
        return tree.items[0].context_expr
    if isinstance(tree, ast.Expr) and isinstance(
        tree.value, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ):
        return tree.value.generators[0].iter
    return None


def _tested(test: ast.expr) -> ast.expr:
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    return test


class _Literals(ast.NodeTransformer):
    """Puts one name in the place of every literal, and of an f-string as a whole."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        kept = node.value is None or isinstance(node.value, bool)
        return node if kept else ast.Name(PLACEHOLDER)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return ast.Name(PLACEHOLDER)


def normalised(text: str) -> str:
    """Return *text* without its literals and its layout, for the fingerprint."""
    if text.startswith("{") and text.endswith("}"):  # a value in an f-string, from 3.12 on
        return PLACEHOLDER
    if _PLAIN.fullmatch(text):
        return text
    return attempted(_without_literals, text) or " ".join(text.split())


@lru_cache(KNOWN)
def _without_literals(text: str) -> str | None:
    for attempt in (text, f"({text})"):
        try:
            tree = ast.parse(attempt.strip(), mode="eval")
        except (SyntaxError, ValueError):
            continue
        return ast.unparse(_Literals().visit(tree))
    return None
