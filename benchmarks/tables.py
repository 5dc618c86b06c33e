"""Tables as plain text, aligned, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks import contenders, workloads
from benchmarks.contenders import BARE
from benchmarks.hits import HitCost
from benchmarks.latency import AIM, AIM_BEYOND_MS, Latency
from benchmarks.memory import AIM_BYTES, Growth
from benchmarks.race import Ratio
from benchmarks.retries import COUNTED
from benchmarks.retries import Cost as RetryCost

Row = Sequence[str]
APART = "*"
NOT_MEASURED = "-"


def render(rows: Sequence[Row], *, markdown: bool) -> str:
    """Return *rows* in columns. The first row is the header, the first column the names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_aligned(row, widths) for row in rows]
    lines.insert(1, _rule(widths, markdown=markdown))
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _aligned(row: Row, widths: Sequence[int]) -> list[str]:
    name, *values = row
    return [
        name.ljust(widths[0]),
        *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True)),
    ]


def _rule(widths: Sequence[int], *, markdown: bool) -> list[str]:
    first, *others = ("-" * width for width in widths)
    return [first, *(f"{rule[:-1]}:" if markdown else rule for rule in others)]


# --- ratios ----------------------------------------------------------------------------------


def ratio_rows(ratios: Sequence[Ratio]) -> list[Row]:
    """A row per contender, a column per workload: the median, and the quartiles beside it."""
    cells = {(ratio.contender, ratio.workload): ratio for ratio in ratios}
    columns = _unique(ratio.workload for ratio in ratios)
    names = _unique(ratio.contender for ratio in ratios)
    return [
        ["CPU time over bare", *columns],
        ["bare, ms", *(f"{_bare_ms(ratios, column):.1f}" for column in columns)],
        *(
            [_name(ratios, name), *(_cell(cells, name, column) for column in columns)]
            for name in names
        ),
        ["aim of async_guard", *(f"<= {workloads.BY_NAME[each].aim:.2f}" for each in columns)],
    ]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _bare_ms(ratios: Sequence[Ratio], workload: str) -> float:
    return next(ratio.bare_ms for ratio in ratios if ratio.workload == workload)


def _name(ratios: Sequence[Ratio], name: str) -> str:
    is_apart = any(ratio.is_apart for ratio in ratios if ratio.contender == name)
    return name + APART if is_apart else name


def _cell(cells: dict[tuple[str, str], Ratio], name: str, workload: str) -> str:
    ratio = cells.get((name, workload))
    if ratio is None:
        return NOT_MEASURED
    return f"{ratio.median:.2f} ({ratio.lower:.2f}-{ratio.upper:.2f})"


def ratio_legend(ratios: Sequence[Ratio]) -> list[str]:
    """Say who is who and what is what."""
    legend = [
        "Median of the rounds, over the bare turn of the same round, and the quartiles.",
        f"Where there is a {NOT_MEASURED}, the contender does nothing.",
    ]
    if any(ratio.is_apart for ratio in ratios):
        legend.append(
            f"{APART} in a process of its own, as what patches for good must be: +-0.03 or so."
        )
    for name in _unique([BARE.name, *(ratio.contender for ratio in ratios)]):
        legend.append(f"{name}: {contenders.BY_NAME[name].what}")
    for name in _unique(ratio.workload for ratio in ratios):
        legend.append(f"{name}: {workloads.BY_NAME[name].what}")
    return legend


def missed_ratios(ratios: Sequence[Ratio]) -> list[str]:
    """Name every workload where async_guard costs more than its aim, to two decimals."""
    return [
        f"{ratio.workload}: {ratio.median:.3f}, aim {aim:.2f}{_doubt(ratio, aim)}"
        for ratio in ratios
        if ratio.contender == "async_guard"
        and round(ratio.median, 2) > (aim := workloads.BY_NAME[ratio.workload].aim)
    ]


def _doubt(ratio: Ratio, aim: float) -> str:
    return "" if ratio.lower > aim else " (a quarter of the rounds kept it)"


# --- hits ------------------------------------------------------------------------------------


def hit_rows(costs: Sequence[HitCost]) -> list[Row]:
    """A row per site and stage, in microseconds."""
    return [
        ["one hit, us", "bare", "caller, over bare", "best", "process, over bare", "aim, caller"],
        *(
            [
                f"{cost.site}: {cost.stage}",
                f"{cost.bare_us:.0f}",
                f"+{cost.caller_us:.0f} ({cost.lower_us:.0f}-{cost.upper_us:.0f})",
                f"+{cost.best_us:.0f}",
                f"+{cost.process_us:.0f}",
                f"<= {cost.aim_us:.0f}",
            ]
            for cost in costs
        ),
    ]


HIT_LEGEND = [
    "bare: the code of the site, with the exception that Django raises and the site swallows.",
    "caller: CPU time of the thread that hits, over that: what the request waits for.",
    "process: the same with the writer thread, until everything is in the log.",
    "query: Book.objects.count(); relation: book.author, not loaded; resolver: that in a resolver.",
]


def missed_hits(costs: Sequence[HitCost]) -> list[str]:
    return [
        f"{cost.site}, {cost.stage}: +{cost.caller_us:.0f} us, aim {cost.aim_us:.0f} us"
        for cost in costs
        if cost.caller_us > cost.aim_us
    ]


# --- memory ----------------------------------------------------------------------------------


def memory_rows(growths: Sequence[Growth]) -> list[Row]:
    """A row per contender, in bytes."""
    return [
        ["allocated, bytes", "operations", "after a tenth", "at the end", "growth"],
        *(
            [
                growth.contender,
                f"{growth.operations:,}",
                f"{growth.early_bytes:,}",
                f"{growth.late_bytes:,}",
                f"{growth.bytes:+,}",
            ]
            for growth in growths
        ),
    ]


MEMORY_LEGEND = [
    f"async_guard may grow by {AIM_BYTES:,} bytes more than the bare program.",
    "An operation is a sync resolver, a read of a loaded relation, or an awaited query (49:49:2).",
]


def missed_memory(growths: Sequence[Growth]) -> list[str]:
    bare, guarded = growths
    over = guarded.bytes - bare.bytes
    return [f"memory: {over:+,} bytes, aim {AIM_BYTES:,}"] if over > AIM_BYTES else []


# --- retries -----------------------------------------------------------------------------------


def retry_rows(costs: Sequence[RetryCost]) -> list[Row]:
    """A row per pair: the ratio, its aim, and what is counted in a first and a later run."""
    return [
        ["CPU time over the hand fix", "median", "aim", "hand fix, ms", "first run", "later runs"],
        *(
            [
                cost.name,
                f"{cost.median:.2f} ({cost.lower:.2f}-{cost.upper:.2f})",
                "-" if cost.aim is None else f"<= {cost.aim:.2f}",
                f"{cost.theirs_ms:.1f}",
                _retry_counts(cost, "first"),
                _retry_counts(cost, "later"),
            ]
            for cost in costs
        ),
    ]


def _retry_counts(cost: RetryCost, when: str) -> str:
    queries, hops, bodies = (cost.counts[f"{when}_{name}"] for name in COUNTED)
    return f"{queries} / {hops} / {bodies}"


def retry_legend(costs: Sequence[RetryCost]) -> list[str]:
    return [
        *(f"{cost.name}: {cost.what}" for cost in costs),
        "Runs: queries / hops to the worker thread / runs of the resolver's body.",
    ]


def missed_retries(costs: Sequence[RetryCost]) -> list[str]:
    return [
        f"{cost.name}: {cost.median:.2f}, aim {cost.aim:.2f}"
        for cost in costs
        if cost.aim is not None and cost.median > cost.aim
    ]


# --- latency ---------------------------------------------------------------------------------


def latency_rows(latency: Latency) -> list[Row]:
    return [
        ["loop latency, p99", "resume, ms", "by hand, ms", "ratio", "aim", "most beyond", "aim"],
        [
            "200 slow queries",
            f"{latency.resume_ms:.1f}",
            f"{latency.hand_ms:.1f}",
            f"{latency.ratio:.2f}",
            f"<= {AIM:.2f}",
            f"{latency.worst_beyond_ms:+.1f} ms",
            f"<= {AIM_BEYOND_MS:.0f} ms",
        ],
    ]


LATENCY_LEGEND = [
    "How much later than asked a 1 ms ticker wakes while 200 queries of 10 ms each run, one after"
    " the other: .get() under resume, and await .aget().",
    "Wall-clock time: on a busy machine both are late. Medians of the rounds.",
]


def missed_latency(latency: Latency) -> list[str]:
    missed = []
    if round(latency.ratio, 2) > AIM:
        missed.append(f"latency: {latency.ratio:.2f}, aim {AIM:.2f}")
    if latency.worst_beyond_ms > AIM_BEYOND_MS:
        missed.append(f"latency: {latency.worst_beyond_ms:+.1f} ms, aim {AIM_BEYOND_MS:.0f} ms")
    return missed


# --- all of them -----------------------------------------------------------------------------


def section(
    rows: Sequence[Row], legend: Sequence[str], missed: Sequence[str], *, markdown: bool
) -> str:
    """Return a table, how to read it, and which aims it misses."""
    bullet: Callable[[str], str] = "- {}".format if markdown else "  {}".format
    verdict = [f"Missed: {each}" for each in missed] or ["Every aim is kept."]
    return "\n".join([render(rows, markdown=markdown), "", *map(bullet, legend), "", *verdict, ""])
