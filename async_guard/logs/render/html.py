"""
One HTML file that needs nothing else: no network, no script to be read.

Style and script are allowed by their hashes, so nothing that a log says can become either. With
many problems the lesser ones are told in fewer words, so that the page stays small.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

from async_guard.advice import DOCS, RULES
from async_guard.logs.events import dated
from async_guard.logs.report import Problem, Report, compared, nothing, numbered, seen, summed_up
from async_guard.logs.tally import Trend

MOST_BYTES = 480_000
HEIGHT = 20


class Detail(NamedTuple):
    """How much is told of a problem."""

    frames: int
    names: int
    samples: int
    bars: int
    patch: int
    """Characters: a longer one is left to the command that prints it."""


DETAILS = (
    Detail(30, 50, 5, 32, 12_000),
    Detail(12, 10, 2, 24, 4_000),
    Detail(4, 5, 1, 16, 1_500),
    Detail(2, 2, 0, 12, 500),
    Detail(1, 1, 0, 8, 0),
    Detail(0, 0, 0, 0, 0),
)
IN_FULL = 10
"""The first problems are always told in full."""


def render(report: Report) -> str:
    """Return *report* as a page."""
    text = ""
    for detail in DETAILS:
        text = "\n".join(_page(report, detail)) + "\n"
        if len(text.encode("utf-8", "replace")) <= MOST_BYTES:
            break
    return text


def _page(report: Report, detail: Detail) -> Iterator[str]:
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>async_guard: {numbered(len(report.problems), 'problem')}</title>"
    yield f"<style>{style}</style>\n</head>\n<body>"
    yield from _head(report)
    yield "<main>"
    yield from _problems(report, detail) if report.problems else (f"<p>{nothing(report)}</p>",)
    yield "</main>"
    yield from _foot(report)
    yield f"<script>{script}</script>\n</body>\n</html>"


def _problems(report: Report, detail: Detail) -> Iterator[str]:
    yield from _controls(report)
    yield '<h2>Problems</h2>\n<ol id="problems">'
    for number, problem in enumerate(report.problems):
        yield _problem(problem, DETAILS[0] if number < IN_FULL else detail)
    yield "</ol>"
    yield from _rules(report.problems)


@cache
def _asset(name: str) -> str:
    return files("async_guard.logs.render").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _head(report: Report) -> Iterator[str]:
    yield "<header>\n<h1>async_guard report</h1>"
    yield (
        f"<p>{numbered(len(report.problems), 'problem')}, {numbered(report.count, 'hit')}. "
        f"Made {escape(dated(report.made_at) or '')}; all times are UTC.</p>"
    )
    if report.patch_note:
        yield f"<p>{escape(report.patch_note)}</p>"
    yield "</header>"


def _controls(report: Report) -> Iterator[str]:
    outcomes = sorted({outcome for each in report.problems for outcome in each.tally.outcomes})
    options = "".join(f"<option>{escape(outcome)}</option>" for outcome in outcomes)
    yield (
        "<form hidden>"
        '<label>Filter <input name="words" type="search" autocomplete="off"></label>'
        '<label>Outcome <select name="outcome"><option value="">any</option>'
        f"{options}</select></label>"
        '<label>Order <select name="order"><option value="hits">most hits</option>'
        '<option value="last">last seen</option><option value="first">first seen, newest</option>'
        '<option value="name">name</option></select></label>'
        '<button type="button" name="expand">Expand all</button>'
        '<button type="button" name="collapse">Collapse all</button>'
        '<span id="shown" role="status"></span></form>'
    )


def _problem(problem: Problem, detail: Detail) -> str:
    tally = problem.tally
    outcomes = " ".join(tally.outcomes)
    data = f'data-n="{problem.count}" data-o="{escape(outcomes)}"'
    if tally.first_seen is not None and tally.last_seen is not None:
        data += f' data-f="{tally.first_seen:.0f}" data-l="{tally.last_seen:.0f}"'
    mark = ' <span class="new">new</span>' if problem.is_new else ""
    return (
        f'<li {data}><details id="{escape(problem.fingerprint)}"><summary>'
        f'<b class="{problem.level}">{problem.count:,}</b> '
        f"<span><code>{escape(problem.subject)}</code>{mark}</span>"
        f"{_svg(tally.trend, detail.bars)} "
        f"<i>{escape(problem.outcomes)} · {escape(problem.place)}</i></summary>"
        f"<div>{''.join(_body(problem, detail))}</div></details></li>"
    )


def _body(problem: Problem, detail: Detail) -> Iterator[str]:
    yield f"<p>{escape(problem.advice)}</p>"
    if problem.before or problem.after:
        before, after = escape(problem.before), escape(problem.after)
        yield f"<pre><del>- {before}</del>\n<ins>+ {after}</ins></pre>"
    yield from _patch(problem, detail.patch)
    facts = ", ".join(_facts(problem))
    yield f"<p>{facts}</p>"
    lists = [_names(title, names, detail.names) for title, names in _lists(problem)]
    if lists and detail.names:
        yield f"<p>{'; '.join(lists)}</p>"
    yield from _samples(problem, detail.samples)
    yield from _stack(problem, detail.frames)


def _patch(problem: Problem, most: int) -> Iterator[str]:
    patch = problem.patch
    if len(patch.diff) > most:
        command = f"async-guard fix --only {problem.fingerprint}"
        yield f"<p>Patch: <code>{escape(command)}</code> prints it.</p>"
    elif patch.diff:
        yield f"<h3>Patch</h3><pre>{''.join(_diff(patch.diff))}</pre>"
    if patch.noted:
        yield f"<p>{escape(patch.noted)}</p>"


def _facts(problem: Problem) -> Iterator[str]:
    hit = problem.hit
    yield f"<code>{escape(problem.fingerprint)}</code>"
    if hit.function:
        yield f"in <code>{escape(hit.function)}</code>"
    if problem.rule:
        rule = escape(problem.rule)
        yield f'<a href="#{rule}">{rule}</a>' if problem.rule_title else rule
    if when := seen(problem.tally):
        yield escape(when)
    if hit.owner_package:
        yield f"code of {escape(hit.owner_package)}"
    if problem.retry_cost:
        yield f"retry: {escape(problem.retry_cost)}"


def _lists(problem: Problem) -> Iterator[tuple[str, list[str]]]:
    names = problem.tally.names
    for title, kinds in (
        ("Fields", ("fields",)),
        ("Operations", ("operations",)),
        ("Routes", ("routes",)),
        ("Services", ("services", "versions")),
    ):
        found = [f"{name} {count:,}" for kind in kinds for name, count in names[kind].most_common()]
        if found:
            yield title, found


def _names(title: str, names: list[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{title}: {escape(', '.join(names[:most]))}{more}"


def _samples(problem: Problem, most: int) -> Iterator[str]:
    for kind, samples in problem.tally.samples.items():
        if samples[:most]:
            yield f"<p>{kind[:-1]}: <code>{escape(', '.join(samples[:most]))}</code></p>"


def _stack(problem: Problem, most: int) -> Iterator[str]:
    frames = problem.hit.frames
    if len(frames) > most:  # the project's own first, in their order
        own = [i for i, frame in enumerate(frames) if frame["in_app"]]
        rest = [i for i, frame in enumerate(frames) if not frame["in_app"]]
        frames = tuple(frames[i] for i in sorted((own + rest)[:most]))
    if not frames:
        return
    lines = "".join(
        f"<li{'' if frame['in_app'] else ' class=lib'}>"
        f"{escape(frame['file'])}:{frame['line'] or '?'} {escape(frame['function'])}</li>"
        for frame in frames
    )
    title = "Stack" if len(frames) == len(problem.hit.frames) else "Some of the stack"
    yield f"<h3>{title}</h3><ol>{lines}</ol>"


def _diff(patch: str) -> Iterator[str]:
    tags = {"+": "ins", "-": "del"}
    for line in patch.splitlines(keepends=True):
        tag = tags.get(line[:1])
        yield f"<{tag}>{escape(line)}</{tag}>" if tag else escape(line)


def _svg(trend: Trend, most: int) -> str:
    """Return hits over time as a bar per bucket."""
    points = [count for _, count in trend.points()]
    if len(points) < 2 or not most:
        return ""
    step = -(-len(points) // most)
    sums = [sum(points[i : i + step]) for i in range(0, len(points), step)]
    bars = "".join(
        f"M{2 * x + 1} {HEIGHT}v-{max(1, HEIGHT * count // max(sums))}"
        for x, count in enumerate(sums)
        if count
    )
    return (
        f'<svg viewBox="0 0 {2 * len(sums)} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Trend, up to {max(sums):,} hits a bar"><path d="{bars}"/></svg>'
    )


def _rules(problems: Iterable[Problem]) -> Iterator[str]:
    used = {problem.rule for problem in problems}
    found = sorted((rule.id, rule.title) for rule in RULES if rule.id in used)
    if not found:
        return
    yield "<h2>Rules</h2>\n<ul>"
    for rule, title in found:
        yield f'<li id="{rule}"><a href="{DOCS}/{rule}.md">{rule}: {escape(title)}</a></li>'
    yield "</ul>"


def _foot(report: Report) -> Iterator[str]:
    yield "<footer>\n<h2>What was read</h2>"
    for sentence in (*compared(report), *summed_up(report.accounts)):
        yield f"<p>{escape(sentence)}</p>"
    yield "</footer>"
