"""
The first table: what each contender costs where there is nothing to report.

Rounds are many and short. In each, every contender takes a turn at every workload, in an order that
moves on by one, and is compared with the bare turn of the same round: what slows the machine down
for longer than a round slows both. The median of these ratios is the result, the quartiles say how
far to trust it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.child import Child
from benchmarks.contenders import BARE, Contender
from benchmarks.quartiles import quartiles
from benchmarks.workloads import Workload

ROUNDS_PER_SET = 6
"""How long a set of processes lives: after that, fresh ones take over."""

Cell = tuple[str, str]
"""A workload and a contender, by name."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How a contender did at a workload, over the bare program."""

    workload: str
    contender: str
    median: float
    lower: float
    """The first quartile of the rounds."""
    upper: float
    """The third quartile of the rounds."""
    bare_ms: float
    is_apart: bool
    """Measured in a process of its own, beside a bare one."""
    rounds: list[float]


@dataclass(frozen=True)
class Lane:
    """A contender, and the process it runs in."""

    contender: Contender
    child: Child
    is_apart: bool


class Race:
    """Some contenders, some workloads, and the seconds they took."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        workloads: Sequence[Workload],
        *,
        all_apart: bool = False,
    ) -> None:
        rivals = [contender for contender in contenders if contender is not BARE]
        self._apart = [rival for rival in rivals if all_apart or rival.is_permanent]
        self._together = [rival for rival in rivals if rival not in self._apart]
        self._workloads = workloads
        self._seconds: dict[tuple[bool, Cell], list[float]] = defaultdict(list)

    def run(self, rounds: int, progress: Callable[[int], None]) -> list[Ratio]:
        for first in range(0, rounds, ROUNDS_PER_SET):
            with ExitStack() as stack:
                lanes = self._open_lanes(stack, seed=first)
                for number in range(first, min(first + ROUNDS_PER_SET, rounds)):
                    progress(number)
                    self._round(lanes, number)
        return list(self._ratios())

    def _open_lanes(self, stack: ExitStack, seed: int) -> list[Lane]:
        def child(*apps: str) -> Child:
            return stack.enter_context(Child(*apps, seed=seed))

        lanes: list[Lane] = []
        if self._together:
            shared = child(*(app for rival in self._together for app in rival.apps))
            lanes += [Lane(each, shared, is_apart=False) for each in (BARE, *self._together)]
        if self._apart:
            lanes += [Lane(each, child(*each.apps), is_apart=True) for each in (BARE, *self._apart)]
        return lanes

    def _round(self, lanes: Sequence[Lane], number: int) -> None:
        for workload in self._workloads:
            for lane in _rotated(lanes, number):
                if lane.contender.runs(workload):
                    cell = workload.name, lane.contender.name
                    seconds = lane.child.turn(workload, lane.contender)
                    self._seconds[lane.is_apart, cell].append(seconds)

    def _ratios(self) -> Iterator[Ratio]:
        for (is_apart, (workload, contender)), seconds in self._seconds.items():
            if contender != BARE.name:
                bare = self._seconds[is_apart, (workload, BARE.name)]
                yield _ratio(workload, contender, seconds, bare, is_apart)


def _rotated(lanes: Sequence[Lane], by: int) -> list[Lane]:
    start = by % len(lanes)
    return [*lanes[start:], *lanes[:start]]


def _ratio(
    workload: str, contender: str, seconds: list[float], bare: list[float], is_apart: bool
) -> Ratio:
    rounds = [ours / theirs for ours, theirs in zip(seconds, bare, strict=True)]
    lower, middle, upper = quartiles(rounds)
    return Ratio(
        workload=workload,
        contender=contender,
        median=middle,
        lower=lower,
        upper=upper,
        bare_ms=1000 * median(bare),
        is_apart=is_apart,
        rounds=rounds,
    )
