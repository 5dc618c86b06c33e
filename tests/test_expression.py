"""The same expression on every interpreter."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_guard.expression import Expression, core_expression, normalised


def whole_statement(source: str) -> tuple[list[str], tuple[int, int, int, int]]:
    """Return what an interpreter that points at whole statements gives: ``<=`` 3.12."""
    lines = source.splitlines(keepends=True)
    node = ast.parse(source).body[0]
    while isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node = node.body[0]
    if isinstance(node, ast.Expr | ast.Return):
        assert node.value is not None
        node = node.value
    assert node.end_lineno is not None and node.end_col_offset is not None
    return lines, (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for book in books.all():\n    pass\n", Expression("books.all()", 1, 1, 12, 23)),
        ("if not books:\n    pass\nelse:\n    pass\n", Expression("books", 1, 1, 7, 12)),
        ("while books:\n    pass\n", Expression("books", 1, 1, 6, 11)),
        ("with atomic():\n    pass\n", Expression("atomic()", 1, 1, 5, 13)),
        ("[b for b in books]\n", Expression("books", 1, 1, 12, 17)),
        ("def f():\n\tfor b in a:\n\t\tpass\n", Expression("a", 2, 2, 10, 11)),
        ("def f():\n\twith a():\n\t\tb()\n", Expression("a()", 2, 2, 6, 9)),
        (
            "def f():\n    return [\n        b\n        for b in books\n    ]\n",
            Expression("books", 4, 4, 17, 22),
        ),
        ("(größe, [b for b in bücher])\n", Expression("(größe, [b for b in bücher])", 1, 1, 0, 28)),
        ("book.author\n", Expression("book.author", 1, 1, 0, 11)),
    ],
)
def test_core_expression(source: str, expected: Expression) -> None:
    """
    Of a statement only the part that is evaluated is told, with its place.
    """
    lines, where = whole_statement(source)

    assert core_expression(lines, where) == expected


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("Book.objects.get(pk=1)", "Book.objects.get(pk = 2)"),
        ("f(x, 'a')", 'f(x,\n  "b")'),
        ("book.title + f'{book.pk}'", "book.title + f'{book.pk!r:>10}'"),
        ("{qs}", "{qs!r}"),
    ],
)
def test_normalised(text: str, same_as: str) -> None:
    """
    Literals, quotes and layout do not tell two expressions apart.
    """
    assert normalised(text) == normalised(same_as)


@pytest.mark.parametrize(
    ("text", "other"),
    [("book.author", "book.editor"), ("get(pk=a)", "get(pk=b)"), ("f(None)", "f(True)")],
)
def test_normalised_keeps_names(text: str, other: str) -> None:
    """
    Names tell two expressions apart.
    """
    assert normalised(text) != normalised(other)


@given(st.text(max_size=80))
def test_any_text_is_normalised(text: str) -> None:
    """
    Text that is no Python is normalised all the same, and only once.
    """
    assert isinstance(normalised(text), str)


@given(
    st.lists(st.text(max_size=20), max_size=5),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_any_position(lines: list[str], line: int, end: int, column: int, end_column: int) -> None:
    """
    A file that changed since it was loaded gives some text, never an error.
    """
    found = core_expression(lines, (line, end, column, end_column))

    assert isinstance(found.text, str)


def failing(times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the parser fail so many times, as up to Python 3.11 when it is entered twice."""
    parse, calls = ast.parse, [0]

    def parse_or_fail(*args, **kwargs):
        calls[0] += 1
        if calls[0] <= times:
            raise SystemError("AST constructor recursion depth mismatch")
        return parse(*args, **kwargs)

    monkeypatch.setattr(ast, "parse", parse_or_fail)
    return calls


def test_parser_in_the_way_of_itself(monkeypatch: pytest.MonkeyPatch):
    """
    Where the parser failed because it was entered twice, it is asked again.
    """
    failing(1, monkeypatch)

    assert normalised("entered( twice, 1 )") == "entered(twice, …)"


def test_parser_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch):
    """
    Without the parser the source text has to do, and only as long as it cannot be had.
    """
    lines, where = whole_statement("for each in not_parsed.all():\n    pass\n")

    with monkeypatch.context() as patch:
        failing(1000, patch)
        plain = normalised("not_parsed( 1 )"), core_expression(lines, where).text
    parsed = normalised("not_parsed( 1 )"), core_expression(lines, where).text

    assert plain == ("not_parsed( 1 )", "for each in not_parsed.all():\n    pass")
    assert parsed == ("not_parsed(…)", "not_parsed.all()")


def test_parsed_once(monkeypatch: pytest.MonkeyPatch):
    """
    The same text is parsed once.
    """
    calls = failing(0, monkeypatch)

    assert {normalised("parsed( once )") for _ in range(5)} == {"parsed(once)"}
    assert calls == [1]
