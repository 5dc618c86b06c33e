"""
The second table: what a hit costs, over the bare exception that Django raises anyway.

Two clocks. The thread's own says what the request waits for; that of the process adds the writer
thread, which carries the hit to the log, and ``flush()`` waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import child, contenders, project
from benchmarks.quartiles import quartiles
from benchmarks.turn import collector_paused, pin_to_one_cpu

if TYPE_CHECKING:
    from benchmarks.sites import Site

BATCH = 100
ROUNDS = 20
NO_LIMIT = 10**9

AIMS_US = {
    "first in the process": 1000,
    "first of a fingerprint": 1000,
    "next, in full": 150,
    "next, counted": 15,
}
"""What each may cost the calling thread, in microseconds."""


class Clocks(NamedTuple):
    """CPU microseconds per hit."""

    caller: float
    process: float

    def over(self, bare: Clocks) -> Clocks:
        return Clocks(self.caller - bare.caller, self.process - bare.process)


@dataclass(frozen=True, kw_only=True)
class HitCost:
    """What one more hit costs, over the bare exception."""

    site: str
    stage: str
    bare_us: float
    caller_us: float
    lower_us: float
    upper_us: float
    best_us: float
    process_us: float
    aim_us: float


Sample = dict[str, tuple[Clocks, float]]
"""By stage: the extra time, and that of the bare exception."""


def measure(processes: int, progress: Callable[[str], None]) -> Iterator[HitCost]:
    """Measure every site in so many fresh processes each."""
    for site in ("query", "relation", "resolver"):
        samples = []
        for number in range(processes):
            progress(f"hits: {site}, process {number + 1} of {processes}")
            samples.append(child.ask("hits", site, seed=number))
        for stage in samples[0]:
            yield _cost(site, stage, [sample[stage] for sample in samples])


def _cost(site: str, stage: str, measured: list[Any]) -> HitCost:
    callers = [caller for (caller, _), _ in measured]
    lower, middle, upper = quartiles(callers)
    return HitCost(
        site=site,
        stage=stage,
        bare_us=median(bare for _, bare in measured),
        caller_us=middle,
        lower_us=lower,
        upper_us=upper,
        best_us=min(callers),
        process_us=median(process for (_, process), _ in measured),
        aim_us=AIMS_US[stage],
    )


# --- in the fresh process --------------------------------------------------------------------


@contextmanager
def _guard(log_file: Path, burst: int) -> Iterator[None]:
    """Install async_guard, fresh: nothing of an earlier installation is remembered."""
    from django.test import override_settings

    import async_guard

    with override_settings(ASYNC_GUARD={"BURST": burst, "LOG_FILE": str(log_file)}):
        async_guard.install()
        try:
            yield
        finally:
            async_guard.uninstall()


async def _clocked(site: Site, times: int, finish: Callable[[], object]) -> Clocks:
    """Hit so many times, and return the time per hit. *finish* is on the process clock only."""
    process, caller = time.process_time(), time.thread_time()
    await site(times)
    await asyncio.sleep(0)  # what was put off to the next turn of the loop is ours too
    caller = time.thread_time() - caller
    finish()
    process = time.process_time() - process
    return Clocks(1e6 * caller / times, 1e6 * process / times)


async def _clocked_hits(site: Site, times: int) -> Clocks:
    """The same with the guard on. It must have seen every hit, or it was not measured."""
    import async_guard

    before = sum(async_guard.totals().values())
    clocks = await _clocked(site, times, async_guard.flush)
    seen = sum(async_guard.totals().values()) - before
    if seen != times:
        raise RuntimeError(f"async_guard saw {seen} of {times} hits.")
    return clocks


class Bench:
    """One kind of site in this process, with and without the guard."""

    def __init__(self, name: str, folder: Path) -> None:
        from benchmarks.sites import SITES

        self._name = name
        self._folder = folder
        self._log_file = folder / "hits.jsonl"
        self._bare = SITES[name](())
        self._guarded = SITES[name](contenders.BY_NAME["async_guard"].extensions())

    async def sample(self) -> Sample:
        """Go through the stages; the first hit of the process must come first."""
        from benchmarks.sites import EXPRESSIONS

        sample = {"first in the process": await self._first()}
        if self._name in EXPRESSIONS:
            sample["first of a fingerprint"] = await self._first_of_many()
        sample["next, in full"] = await self._next(burst=NO_LIMIT)
        sample["next, counted"] = await self._next(burst=1)
        return sample

    async def _first(self) -> tuple[Clocks, float]:
        with collector_paused():
            await self._guarded(1)  # not installed yet: only to warm up
            bare = await self._bare_singles()
            with _guard(self._log_file, NO_LIMIT):
                await self._guarded(0)  # what a schema's first operation costs is no hit
                first = await _clocked_hits(self._guarded, 1)
        return first.over(bare), bare.caller

    async def _bare_singles(self) -> Clocks:
        singles = [await _clocked(self._bare, 1, _nothing) for _ in range(ROUNDS)]
        return Clocks(*(median(column) for column in zip(*singles, strict=True)))

    async def _first_of_many(self) -> tuple[Clocks, float]:
        from benchmarks.sites import visit, write_places

        places = visit(write_places(self._folder, self._name, BATCH))
        await places(BATCH)
        with collector_paused():
            bare = await _clocked(places, BATCH, _nothing)
            with _guard(self._log_file, NO_LIMIT):
                await self._guarded(1)
                first = await _clocked_hits(places, BATCH)
        return first.over(bare), bare.caller

    async def _next(self, burst: int) -> tuple[Clocks, float]:
        pairs = [await self._pair(burst) for _ in range(ROUNDS)]
        extra = [guarded.over(bare) for bare, guarded in pairs]
        middle = Clocks(*(median(column) for column in zip(*extra, strict=True)))
        return middle, median(bare.caller for bare, _ in pairs)

    async def _pair(self, burst: int) -> tuple[Clocks, Clocks]:
        import async_guard

        with collector_paused():
            await self._bare(BATCH)
            bare = await _clocked(self._bare, BATCH, _nothing)
            with _guard(self._log_file, burst):
                await self._guarded(BATCH)
                async_guard.flush()
                return bare, await _clocked_hits(self._guarded, BATCH)


def _nothing() -> None:
    """There is no writer to wait for."""


def _log_to_nowhere() -> None:
    """Have log records formatted and written, as in a project, but not seen."""
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def main(site: str) -> None:
    """Print the sample of one process."""
    pin_to_one_cpu()
    project.set_up("async_guard")
    _log_to_nowhere()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(Bench(site, Path(folder)).sample())))


if __name__ == "__main__":
    main(*sys.argv[1:])
