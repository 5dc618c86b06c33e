"""Everything about one problem, as text."""

from __future__ import annotations

from collections.abc import Iterator

from async_guard.logs.render.plain import wrapped
from async_guard.logs.report import Problem, numbered, seen
from async_guard.logs.tally import Trend

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 60
RETRIED = ("retried", "retry_failed", "retry_refused")
_LISTS = {
    "fields": "GraphQL fields",
    "operations": "operations",
    "routes": "routes",
    "views": "views",
    "services": "services",
    "versions": "versions",
    "environments": "environments",
}
_SAMPLES = {
    "request_ids": "request_id",
    "correlation_ids": "correlation_id",
    "trace_ids": "trace_id",
}


def explanation(problem: Problem, patch_note: str = "") -> str:
    """
    Return what the log says about *problem*, and what ``fix`` would do about it.

    Args:
        patch_note: why nothing could be proposed.
    """
    return "\n".join(_lines(problem, patch_note))


def _lines(problem: Problem, patch_note: str) -> Iterator[str]:
    yield f"{problem.fingerprint}  {problem.subject}"
    yield from wrapped(problem.hit.message or problem.advice)
    yield ""
    yield from _facts(problem)
    yield from _code(problem)
    yield from _patch(problem, patch_note)
    yield from _stack(problem)
    for name, title in _LISTS.items():
        yield from _names(problem, name, title)
    yield from _trend(problem.tally.trend)
    yield from _samples(problem)
    yield "What a retry does to it"
    yield from wrapped(retried(problem))


def _facts(problem: Problem) -> Iterator[str]:
    hit, tally = problem.hit, problem.tally
    owner = f"{hit.owner} ({hit.owner_package})" if hit.owner_package else hit.owner
    duration = tally.duration_ms
    facts = {
        "hits": f"{problem.count:,} in {numbered(tally.lines, 'event')}",
        "outcome": problem.outcomes,
        "seen": seen(tally),
        "kind": f"{hit.kind}, {hit.access}",
        "where": f"{problem.place} in {hit.function}",
        "code of": owner,
        "rule": f"{problem.rule} {problem.rule_title}".strip(),
        "docs": problem.docs,
        "took": f"{duration.mean:.1f} ms on average, {duration.most:.1f} ms at most"
        if duration.number
        else "",
    }
    yield from (f"{name:<8} {said}" for name, said in facts.items() if said)
    yield ""


def _code(problem: Problem) -> Iterator[str]:
    if problem.before:
        yield "Before"
        yield from _indented(problem.before)
    if problem.after:
        yield "After"
        yield from _indented(problem.after)
    yield from wrapped(problem.advice)
    yield ""


def _patch(problem: Problem, note: str) -> Iterator[str]:
    patch = problem.patch
    if patch.diff:
        yield "Patch"
        yield from _indented(patch.diff)
    yield from wrapped(patch.noted or note, "" if not patch.diff else "    ")
    yield ""


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _stack(problem: Problem) -> Iterator[str]:
    if not problem.hit.frames:
        return
    yield "Stack, innermost first; > is the project's own code"
    for frame in problem.hit.frames:
        mark = ">" if frame["in_app"] else " "
        line = frame["line"] if frame["line"] is not None else "?"
        yield f"  {mark} {frame['file']}:{line} in {frame['function']}"
    yield ""


def _names(problem: Problem, name: str, title: str) -> Iterator[str]:
    names = problem.tally.names[name].most_common()
    if not names:
        return
    yield f"By {title}, where the event says"
    yield from (f"    {count:>9,}  {each}" for each, count in names)
    yield ""


def _trend(trend: Trend) -> Iterator[str]:
    places = trend.points()
    if len(places) < 2:
        return
    width, points = int(places[1][0] - places[0][0]), [count for _, count in places]
    step = -(-len(points) // MOST_BARS)
    sums = [sum(points[i : i + step]) for i in range(0, len(points), step)]
    yield f"Trend, {_width(width * step)} a bar, {max(sums):,} hits at most"
    yield f"    {''.join(_bar(count, max(sums)) for count in sums)}"
    yield ""


def _bar(count: int, most: int) -> str:
    return BARS[min(len(BARS) - 1, count * len(BARS) // (most + 1))] if count else " "


def _width(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds} seconds"


def _samples(problem: Problem) -> Iterator[str]:
    found = {name: problem.tally.samples[name] for name in _SAMPLES}
    if not any(found.values()):
        return
    yield "Samples to look up in other logs"
    for name, samples in found.items():
        yield from (f"    {_SAMPLES[name]:<14} {sample}" for sample in samples)
    yield ""


def retried(problem: Problem) -> str:
    """Say what retries did, or what one could do."""
    tally = problem.tally
    counts = {outcome: tally.outcomes[outcome] for outcome in RETRIED if tally.outcomes[outcome]}
    if counts:
        said = ", ".join(f"{outcome} {count:,}" for outcome, count in counts.items())
        cost = f"; {problem.retry_cost}" if problem.retry_cost else ""
        return f"{said}{cost}."
    return f"None was logged. {_possible(problem)}"


def _possible(problem: Problem) -> str:
    hit = problem.hit
    if hit.kind == "n_plus_one":
        return "It runs in the worker thread already: only the queryset can be mended."
    if hit.kind == "async_to_sync_in_loop":
        return "It is no database access, so there is nothing to move to the worker thread."
    if hit.in_async_def:
        return (
            "In an async function only the one access can be moved, not the whole call run again."
        )
    if hit.operation_type == "mutation" and "." not in (hit.graphql_path or "."):
        return "A mutation's root field may have changed something, so it is not run twice."
    if hit.graphql_field:
        return "A sync resolver below a query can be run once more, in the worker thread."
    return "Outside of a resolver only the one access can be moved to the worker thread."
