"""Following a file: what is given out, and when."""

import argparse
import io
import threading
import time

import pytest

from async_guard.commands import follow
from async_guard.logs.filters import Filters
from async_guard.logs.tail import Tail
from tests.logs.making import line


def texts(tail: Tail) -> list[str]:
    return [data.decode().rstrip("\n") for _, data in tail.lines()]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (-1, ["1", "2", "3"]),
        (0, []),
        (1, ["3"]),
        (2, ["2", "3"]),
        (3, ["1", "2", "3"]),
        (9, ["1", "2", "3"]),
    ],
)
def test_last_lines(tmp_path, lines, expected):
    """
    Of what is there already the last lines are read.
    """
    path = tmp_path / "app.log"
    path.write_text("1\n2\n3\n")
    tail = Tail(str(path), lines)

    assert texts(tail) == expected
    tail.close()


def test_torn_write(tmp_path):
    """
    A line is given out when it has an end, or when none will come.
    """
    path = tmp_path / "app.log"
    path.write_text("1\nhal")
    tail = Tail(str(path), -1)
    assert texts(tail) == ["1"]
    assert texts(tail) == []

    with path.open("a") as file:
        file.write("f\nnext")
    assert list(tail.lines()) == [(2, b"half\n")]
    assert list(tail.rest()) == [(7, b"next")]
    tail.close()


def test_rotation(tmp_path):
    """
    The old file is read to its end, then the new one from its beginning; a gap between is no end.
    """
    path = tmp_path / "app.log"
    path.write_text("1\n")
    tail = Tail(str(path), -1)
    assert texts(tail) == ["1"]

    path.rename(tmp_path / "app.log.1")
    with (tmp_path / "app.log.1").open("a") as file:
        file.write("2\ntorn")
    assert texts(tail) == ["2"]
    path.write_text("3\n")
    assert texts(tail) == ["torn", "3"]
    path.unlink()
    assert texts(tail) == []
    path.write_text("4\n")
    assert texts(tail) == ["4"]
    tail.close()


def test_truncation(tmp_path):
    """
    A file that was truncated begins anew.
    """
    path = tmp_path / "app.log"
    path.write_text("1\n2\n")
    tail = Tail(str(path), -1)
    assert texts(tail) == ["1", "2"]

    with path.open("r+") as file:
        file.truncate(0)
        file.write("3\n")
    assert list(tail.lines()) == [(0, b"3\n")]
    tail.close()


def test_not_there_yet(tmp_path):
    """
    A file that is not there yet is waited for.
    """
    path = tmp_path / "app.log"
    tail = Tail(str(path), 0)
    assert texts(tail) == []

    path.write_text("1\n")
    assert texts(tail) == ["1"]
    tail.close()


def test_follower(tmp_path):
    """
    A new problem is told once, then counted; what was damaged is told at the end.
    """
    path = tmp_path / "app.log"
    path.write_text("\n".join([line(1), line(1, count=4), line(2), line(3)[:200]]))
    out = io.StringIO()
    follower = follow.Follower(Filters(), {f"{2:016x}"}, out)
    tail = Tail(str(path), -1)

    follower.read(tail)
    follower.tell_counts()
    follower.end([tail])
    tail.close()

    said = out.getvalue()
    assert said.count("  new  ") == 1
    assert f"+4      {1:016x}  5 in all" in said
    assert f"+1      {2:016x}" in said
    assert "1 lost." in said


def followed(folder, filters: Filters, known: set[str], *lines: str) -> list[str]:
    """Return what is told of *lines*, and how often it has come since, without the times."""
    path = folder / "app.log"
    path.write_text("\n".join([*lines, ""]))
    out = io.StringIO()
    follower = follow.Follower(filters, known, out)
    tail = Tail(str(path), -1)
    follower.read(tail)
    follower.tell_counts()
    tail.close()
    return [each[10:] for each in out.getvalue().splitlines()]


def test_one_line(tmp_path):
    """
    A line break in a name or an advice is shown, and begins no line.
    """
    names = {"relation": "a\nb", "code__file__path": "c\n.py", "advice": "d\n\te"}

    said = followed(tmp_path, Filters(), set(), line(1, **names))

    assert said == [
        r"new     0000000000000001  raised a\nb at c\n.py:24 in UserType.profile. d\n\te"
    ]


def test_hit_without_a_place(tmp_path):
    """
    Of a hit that lost its place the rest is told.
    """
    whole, _, _ = line(1).partition(', "code.function.name"')

    said = followed(tmp_path, Filters(), set(), whole + "}")

    assert said == [
        "new     0000000000000001  raised users.User.profile. "
        'Use select_related("profile") where Query.users loads the User.'
    ]


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (Filters(field=("UserType.*",)), ["new 1", "+1 2", "+3 1"]),
        (Filters(field=("UserType.name",)), []),
        (Filters(min_count=2), ["new 1", "+1 1"]),
        (Filters(min_count=5), []),
    ],
)
def test_problems_that_are_followed(filters, told, tmp_path):
    """
    A problem is told when it is one of those that were asked for.
    """
    lines = [line(1), line(2), line(1, count=2), line(1)]

    said = followed(tmp_path, filters, {f"{2:016x}"}, *lines)

    shown = [each.split()[:2] for each in said]
    assert sorted(f"{what} {int(which, 16)}" for what, which in shown) == sorted(told)


def test_foreign_lines(tmp_path):
    """
    Foreign lines are no damage, also where they look cut.
    """
    path = tmp_path / "app.log"
    path.write_text('answer {"user": {"email": …\n{"a": 1}\n')
    out = io.StringIO()
    follower = follow.Follower(Filters(), set(), out)
    tail = Tail(str(path), -1)

    follower.read(tail)
    follower.end([tail])
    tail.close()

    assert out.getvalue() == (
        "2 lines read in 1 file: 0 ours, 2 foreign; 0 events recovered, 0 lost.\n"
    )


def test_command(tmp_path, monkeypatch):
    """
    The command runs until it is stopped.
    """
    path, base = tmp_path / "app.log", tmp_path / "base.json"
    path.write_text(line(1) + "\n")
    base.write_text('{"version": 1}')
    stops = threading.Event()

    def sleep(seconds: float) -> None:
        if stops.is_set():
            follow._stop(15, None)
        stops.set()

    monkeypatch.setattr(time, "sleep", sleep)
    parser = argparse.ArgumentParser()
    follow.add_arguments(parser)
    out = io.StringIO()
    arguments = [str(tmp_path / "*.log"), "--baseline", str(base), "-n", "all", "--interval", "0"]

    assert follow.run(parser.parse_args(arguments), out) == 0
    assert f"new     {1:016x}" in out.getvalue()


def test_command_says_that_it_waits(tmp_path, monkeypatch, capsys):
    """
    Who mistypes a name is not left to wait without a word.
    """
    monkeypatch.setattr(time, "sleep", lambda seconds: follow._stop(15, None))
    parser = argparse.ArgumentParser()
    follow.add_arguments(parser)

    assert follow.run(parser.parse_args([str(tmp_path / "ap.log")]), io.StringIO()) == 0
    assert capsys.readouterr().err == f"{tmp_path}/ap.log is not there yet: waiting for it.\n"
