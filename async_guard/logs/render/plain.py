"""Text of 80 columns, for pipes and for terminals without ``rich``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from async_guard.logs.report import Problem, Report, compared, nothing, seen, summed_up

WIDTH = 80
INDENT = " " * 4


def render(report: Report) -> str:
    """Return *report* as text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    if report.problems:
        yield f"{'fingerprint':<16}  {'count':>9}  what"
    for problem in report.problems:
        yield from _problem(problem)
    if not report.problems:
        yield nothing(report)
    yield ""
    for sentence in (*compared(report), *summed_up(report.accounts)):
        if sentence.startswith("lost:"):  # a path is not to be broken
            yield sentence
        else:
            yield from textwrap.wrap(sentence, WIDTH, subsequent_indent=INDENT)


def _problem(problem: Problem) -> Iterator[str]:
    mark = "new: " if problem.is_new else ""
    yield f"{problem.fingerprint:<16}  {problem.count:>9,}  {mark}{problem.subject}"
    yield f"{INDENT}{problem.place} in {problem.function}"
    yield from wrapped(problem.advice)
    yield from wrapped(about(problem))


def about(problem: Problem) -> str:
    """Return outcome, rule, time and origin on one line."""
    parts = [problem.outcomes, problem.rule, seen(problem.tally)]
    fields = problem.named("fields")
    parts.append(_some(fields or problem.named("views")))
    parts.append(_some(problem.named("operations")))
    parts.append(_some(problem.named("routes")))
    parts.append(problem.retry_cost)
    return " · ".join(part for part in parts if part)


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def wrapped(text: str, indent: str = INDENT) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
