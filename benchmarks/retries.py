"""
What unfixed code costs under a retry, over the same code mended by hand.

Both run in one process, one after the other in each round, and what is compared is the CPU time of
the process, worker threads included. Counts do not wobble, so they stand beside it: queries, hops,
and runs of the resolver's body.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import project
from benchmarks.child import ask
from benchmarks.quartiles import quartiles
from benchmarks.turn import collector_paused, pin_to_one_cpu

Run = Callable[[], Awaitable[object]]
COUNTED = ("queries", "hops", "bodies")
Active = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Unfixed code under a retry, and what it is compared with."""

    name: str
    what: str
    aim: float | None
    """None: nothing of ours, but what the machine gives to those who mend by hand."""
    ours: Run
    theirs: Run
    mode: str = "rerun"
    settings: tuple[tuple[str, Any], ...] = ()
    their_mode: str = "off"
    forget: bool = False
    """Every run is the first one after a start."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """How a pair did."""

    name: str
    what: str
    aim: float | None
    median: float
    lower: float
    upper: float
    theirs_ms: float
    counts: dict[str, int]


def measure(rounds: int, progress: Callable[[str], None]) -> Iterator[Cost]:
    """Have every pair measured in a process of its own."""
    for name in ask("retries", "names"):
        progress(f"retries: {name}")
        yield Cost(**ask("retries", name, str(rounds)))


def pairs() -> list[Pair]:
    from benchmarks import retry_programs as programs

    rows = "500 rows, one-to-one relation"
    one_hop_each = programs.query("{ mended { portrait { painter } } }")
    unfixed = programs.query("{ unfixed { portrait { painter } } }")
    return [
        Pair(
            name="learned",
            what=f"{rows}, routes and batching / await sync_to_async(...) by hand",
            aim=0.12,
            ours=unfixed,
            theirs=one_hop_each,
        ),
        Pair(
            name="unbatched",
            what=f"{rows}, batching off / the same",
            aim=0.70,
            ours=unfixed,
            theirs=one_hop_each,
            settings=(("RETRY_BATCHING", False),),
        ),
        Pair(
            name="one_hop",
            what=f"{rows}, all loaded by hand in one hop / the same",
            aim=None,
            ours=programs.query("{ loaded { portrait { painter } } }"),
            theirs=one_hop_each,
            mode="off",
        ),
        Pair(
            name="django_field",
            what=f"{rows} / strawberry_django.field without hints",
            aim=0.12,
            ours=unfixed,
            theirs=programs.query("{ djangoField { portrait { painter } } }"),
        ),
        Pair(
            name="first_request",
            what=f"{rows}, nothing learned yet / await sync_to_async(...) by hand",
            aim=0.20,
            ours=unfixed,
            theirs=one_hop_each,
            forget=True,
        ),
        Pair(
            name="resume_get",
            what="200 x Model.objects.get() in an async def / 200 x await aget()",
            aim=1.10,
            ours=programs.gets,
            theirs=programs.agets,
            mode="resume",
            their_mode="resume",
        ),
        Pair(
            name="resume_no_hit",
            what="2,000 async resolvers without a hit, resume on / off",
            aim=1.10,
            ours=programs.query("{ resolved { asyncValue } }"),
            theirs=programs.query("{ resolved { asyncValue } }"),
            mode="resume",
        ),
        Pair(
            name="rerun_no_hit",
            what="2,000 sync resolvers without a hit, rerun on / off",
            aim=1.02,
            ours=programs.query("{ resolved { syncValue } }"),
            theirs=programs.query("{ resolved { syncValue } }"),
        ),
    ]


# --- in the process that is measured -----------------------------------------------------------


def main(name: str, rounds: str = "1") -> dict[str, Any] | list[str]:
    pin_to_one_cpu()
    project.set_up("async_guard")
    found = {pair.name: pair for pair in pairs()}
    if name == "names":
        return list(found)
    return asdict(asyncio.run(_measure(found[name], int(rounds))))


async def _measure(pair: Pair, rounds: int) -> Cost:
    ratios, theirs_ms = [], []
    logging.disable(logging.CRITICAL)  # the log costs both sides the same: nothing
    ours, theirs = _active(pair, pair.mode), _active(pair, pair.their_mode)
    for number in range(rounds):
        sides = [(ours, pair.ours, pair.forget), (theirs, pair.theirs, False)]
        seconds = {}
        for active, run, forget in sides if number % 2 else reversed(sides):
            seconds[run, active] = await _turn(active, run, forget)
        ratios.append(seconds[pair.ours, ours] / seconds[pair.theirs, theirs])
        theirs_ms.append(seconds[pair.theirs, theirs] * 1000)
    counts = await _counts(pair, ours)
    lower, median, upper = quartiles(ratios)
    return Cost(
        name=pair.name,
        what=pair.what,
        aim=pair.aim,
        median=median,
        lower=lower,
        upper=upper,
        theirs_ms=quartiles(theirs_ms)[1],
        counts=counts,
    )


def _active(pair: Pair, mode: str) -> Callable[[], AbstractContextManager[None]]:
    from django.test import override_settings

    from async_guard import guarded, retrying

    def active() -> AbstractContextManager[None]:
        stack = ExitStack()
        settings = {"ENABLED": False, "BURST": 1, **dict(pair.settings)}
        stack.enter_context(override_settings(ASYNC_GUARD=settings))
        stack.enter_context(guarded())
        stack.enter_context(retrying(mode))
        return stack

    return active


async def _turn(
    active: Callable[[], AbstractContextManager[None]], run: Run, forget: bool
) -> float:
    import async_guard

    with active():
        await run()
        best = []
        for _ in range(3):
            if forget:
                async_guard.routes().clear()
            with collector_paused():
                started = time.process_time()
                await run()
                best.append(time.process_time() - started)
        return min(best)


async def _counts(pair: Pair, active: Active) -> dict[str, int]:
    """Count what a first and a later run do."""
    import async_guard
    from benchmarks import retry_programs as programs

    found = {}
    with active():
        async_guard.routes().clear()
        for label in ("first", "later"):
            with programs.counted() as counts:
                await pair.ours()
            found |= {f"{label}_{name}": value for name, value in counts.items()}
    return found


if __name__ == "__main__":
    import json

    print(json.dumps(main(*sys.argv[1:])))
