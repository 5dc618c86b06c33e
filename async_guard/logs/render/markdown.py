"""Markdown, for a pull request or a wiki."""

from __future__ import annotations

import html
from collections.abc import Iterator

from async_guard.logs.report import Problem, Report, compared, nothing, seen, summed_up


def render(report: Report) -> str:
    """Return *report* as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "# async_guard report"
    yield ""
    if report.problems:
        yield "| hits | problem | where | outcome | fix |"
        yield "| ---: | --- | --- | --- | --- |"
    else:
        yield nothing(report)
    for problem in report.problems:
        yield _row(problem)
    yield ""
    for problem in report.problems:
        yield from _details(problem)
    for sentence in (*compared(report), *summed_up(report.accounts)):
        yield f"- {_text(sentence.strip())}"


def _row(problem: Problem) -> str:
    mark = "**new** " if problem.is_new else ""
    where = f"{code(problem.place)} in {code(problem.function)}"
    cells = (
        f"{problem.count:,}",
        f"{mark}{code(problem.subject)}",
        where,
        problem.outcomes,
        _text(problem.advice),
    )
    return f"| {' | '.join(cells)} |"


def _details(problem: Problem) -> Iterator[str]:
    yield f"## {code(problem.fingerprint)} {_text(problem.subject)}"
    yield ""
    yield _text(problem.hit.message or problem.advice)
    yield ""
    facts = {
        "seen": seen(problem.tally),
        "fields": ", ".join(map(code, problem.named("fields"))),
        "views": ", ".join(map(code, problem.named("views"))),
        "operations": ", ".join(map(code, problem.named("operations"))),
        "routes": ", ".join(map(code, problem.named("routes"))),
        "retry": problem.retry_cost,
    }
    yield from (f"- {name}: {said}" for name, said in facts.items() if said)
    if problem.docs:
        yield f"- rule: [{_text(problem.rule)}]({_link(problem.docs)})"
    if problem.before:
        yield ""
        yield from fenced(f"# before\n{problem.before}\n# after\n{problem.after}", "python")
    if problem.patch.diff:
        yield ""
        yield from fenced(problem.patch.diff, "diff")
    if problem.patch.noted:
        yield ""
        yield _text(problem.patch.noted)
    yield ""


def fenced(text: str, language: str) -> list[str]:
    """Return a block of code whose fence is longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}{language}", text, fence]


def code(text: str) -> str:
    """Return *text* as code that also a table cell can hold."""
    text = " ".join(text.split()).replace("|", "\\|")
    if not text:
        return ""
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _text(text: str) -> str:
    """Return *text* so that it stays text."""
    text = " ".join(text.split())
    for each in "\\`*_[]|#":
        text = text.replace(each, f"\\{each}")
    text = html.escape(text, quote=False)
    return text.replace("@", "&#64;")  # nobody is to be mentioned by a decorator


def _link(url: str) -> str:
    return url if url.startswith(("https://", "http://")) and not set(url) & set("()<> ") else "#"
