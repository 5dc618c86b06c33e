"""What the reports look like."""

import io
import re
import sys

import pytest

from async_guard.commands import report as command
from async_guard.logs import progress
from async_guard.logs.baseline import Baseline
from async_guard.logs.output import write_file
from async_guard.logs.proposal import Proposal
from async_guard.logs.render import as_json, html, markdown, plain
from async_guard.logs.render.explanation import explanation, retried
from async_guard.logs.report import Problem, make_report, with_arguments
from tests.logs.making import FOREIGN, line, read_bytes, summary


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def made(tmp_path):
    """Return a report with everything in it that a report may have."""
    hours = [line(1, count=h + 1).replace("12:34", f"{h:02}:34") for h in range(24)]
    slow = line(2, outcome="retried", retry__strategy="resume", retry__duration_ms=4.5)
    losses = line(4, fingerprint=None)
    newer = line(3, schema_version="3.0", outcome="allowed", code__text="a | `b`\nc")
    lines = [*hours, slow, FOREIGN, summary(2, 9), losses, newer, line(5)[:60]]
    result = read_bytes(tmp_path, "\n".join(lines).encode())
    known = Baseline({f"{1:016x}": "one", f"{7:016x}": "seven"})
    report = make_report(result, baseline=known)
    report.problems[0].patch = Proposal("--- a\n+++ b\n-```\n+new\n")
    return report


def test_terminal(made, monkeypatch):
    """
    The table fits 80 columns and says what the plain text says.
    """
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()

    assert command._show(made, out)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, text.splitlines())) <= 80
    for expected in ("300", "users.User.profile", f"{1:016x}", "new", "lost:", "no longer"):
        assert expected in text


def test_without_rich(made, monkeypatch):
    """
    Without rich a terminal gets the plain text.
    """
    monkeypatch.setitem(sys.modules, "async_guard.logs.render.terminal", None)

    assert not command._show(made, Terminal())
    assert not command._show(made, io.StringIO())


def test_plain(made):
    """
    The plain report ends with what was lost, and where.
    """
    text = plain.render(made)

    assert "2 new problems against the baseline." in text
    assert f"  {7:016x}  seven" in text
    assert "1 event of a newer version than this reader" in text
    assert re.search(r"lost: \S+app\.log, byte \d+: an event without a fingerprint", text)
    assert "1 line cut too early" in text


def test_markdown(made):
    """
    Nothing that a log says breaks out of its cell or its block.
    """
    text = markdown.render(made)
    rows = [row for row in text.splitlines() if row.startswith("|")]

    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "````diff" in text
    assert "@" not in text.split("##")[0]


def test_json(made):
    """
    JSON has the numbers that the other formats put into words.
    """
    found = as_json.as_dict(made)
    retried_one = next(each for each in found["problems"] if each["retry"]["ms"])

    assert found["baseline"] == {"new": [f"{2:016x}", f"{3:016x}"], "gone": {f"{7:016x}": "seven"}}
    assert retried_one["retry"]["ms"] == {"number": 1, "mean": 4.5, "max": 4.5, "total": 4.5}
    assert sum(count for _, count in found["problems"][0]["trend"]) == 300
    assert found["input"]["lost"] == 1


def test_explanation(made):
    """
    The explanation has a trend, a patch, and what retries did.
    """
    first, second, _ = made.problems

    assert "Trend, 24 minutes a bar, 24 hits at most" in explanation(first)
    assert "Patch\n    --- a" in explanation(first)
    assert "retried 1; resume: 4.5 ms on average" in retried(second)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"kind": "n_plus_one"}, "only the queryset"),
        ({"kind": "async_to_sync_in_loop"}, "no database access"),
        ({"code__in_async_def": True}, "only the one access"),
        ({"graphql__operation__type": "mutation", "graphql__path": "login"}, "not run twice"),
        ({}, "can be run once more"),
        ({"graphql__field": None}, "Outside of a resolver"),
    ],
)
def test_possible_retries(tmp_path, changed, expected):
    """
    Where no retry was logged, it is said which one there could be.
    """
    text = line(1, **{"code__in_async_def": False, **changed})
    [tally] = read_bytes(tmp_path, text.encode()).tallies

    assert expected in retried(Problem(tally))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("f(user, 1)", "await sync_to_async(f)(…)", "await sync_to_async(f)(user, 1)"),
        ("a.b(x)(y)", "await sync_to_async(a.b(x))(…)", "await sync_to_async(a.b(x))(y)"),
        ("f(user)", "await sync_to_async(other)(…)", "await sync_to_async(other)(…)"),
        ("not a call", "await sync_to_async(f)(…)", "await sync_to_async(f)(…)"),
        ("a.b", "await sync_to_async(f)(…)", "await sync_to_async(f)(…)"),
        ("f(x)", "….aget(…)", "….aget(…)"),
    ],
)
def test_arguments(before, after, expected):
    """
    What is to be written instead has the arguments of the call as written.
    """
    assert with_arguments(before, after) == expected


def test_progress_bar(monkeypatch):
    """
    A long input has a bar while somebody looks, a short one never.
    """
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress_bar(1000) as told:
        assert told is None
    with progress.progress_bar(200 << 20) as told:
        told(100 << 20)

    assert "50%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")


def test_output_in_place():
    """
    What is no regular file is written to, not replaced.
    """
    write_file("/dev/null", "text")


def test_markdown_tells_fields_from_views(made):
    """
    A view is not called a field.
    """
    text = markdown.render(made)

    assert "\n- fields: `UserType.profile`\n- views: " in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FOREIGN, "No problems."),
        (line(1)[:200], "No problems in what could be read."),
        ("ERROR async_guard.hit: it was cut", "No problems in what could be read."),
    ],
    ids=["foreign", "cut", "for people"],
)
def test_nothing(tmp_path, monkeypatch, text, said):
    """
    Where something could not be read, no report says that there is no problem at all.
    """
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "dumb")
    report = make_report(read_bytes(tmp_path, text.encode()))
    out = Terminal()
    command._show(report, out)

    assert plain.render(report).splitlines()[0] == said
    assert out.getvalue().splitlines()[0] == said
    assert f"\n{said}\n" in markdown.render(report)
    assert f"<p>{said}</p>" in html.render(report)
