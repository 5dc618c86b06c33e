"""
One turn: switch a contender on, run a workload once to warm up, then by the clock, switch it off.

CPU time of the process, not wall-clock time: another program on the machine does not count, a
worker thread does, and so does a tool's own background thread. The garbage collector runs before
the clock starts and not while it ticks; otherwise it is a matter of luck whose turn pays for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.contenders import Contender
from benchmarks.workloads import Run, Workload

TRIES = 3
"""The best of them counts: other programs on the machine can only make a run slower."""


class Stage:
    """Where turns are taken: one event loop, and the schemas that were built for it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runs: dict[tuple[str, str], Run] = {}

    def turn(self, workload: Workload, contender: Contender) -> float:
        """Return the CPU seconds of one run."""
        return self._runner.run(_turn(self._run_of(workload, contender), contender))

    def repeat(self, workload: Workload, contender: Contender, times: int) -> None:
        """Run it so many times and nothing else, for a tool that counts instructions."""
        self._runner.run(_repeat(self._run_of(workload, contender), contender, times))

    def _run_of(self, workload: Workload, contender: Contender) -> Run:
        key = workload.name, contender.name
        if key not in self._runs:
            self._runs[key] = workload.build(contender.extensions())
        return self._runs[key]


async def _turn(run: Run, contender: Contender) -> float:
    with contender.active():
        await run()  # the interpreter specialises its code again after every switch
        return min([await _timed(run) for _ in range(TRIES)])


async def _timed(run: Run) -> float:
    with collector_paused():
        started = time.process_time()
        await run()
        return time.process_time() - started


async def _repeat(run: Run, contender: Contender, times: int) -> None:
    with contender.active(), collector_paused():
        for _ in range(times):
            await run()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect now, and not again before the block ends."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pin_to_one_cpu() -> None:
    """Keep the loop and its worker thread from wandering between cores, and their caches."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
