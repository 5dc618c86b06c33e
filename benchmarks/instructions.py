"""
Counting instructions, where a percent of time is too coarse.

Valgrind counts what a program executes, however busy the machine is. Python's start counts too, so
one command runs the workload a few times more often than the other, and the difference divided by
that is one run. Where objects lie in memory decides how often the interpreter's caches collide,
which was seen to make 2 %; the seed of string hashes moves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import contenders, project
from benchmarks.contenders import Contender
from benchmarks.turn import Stage
from benchmarks.workloads import Workload

FEW, MORE = 5, 10
"""The few are enough for the interpreter to have specialised its code."""

_COMMAND = (
    "PYTHONHASHSEED=0 valgrind --tool=callgrind --callgrind-out-file=/dev/null"
    " python -m benchmarks --one {workload} {contender} --rounds {rounds}"
)


def run_one(workload: Workload, contender: Contender, rounds: int) -> None:
    """Run one workload under one contender, and nothing else."""
    project.set_up(*contender.apps)
    Stage().repeat(workload, contender, rounds)


def commands(workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield what to run: each workload bare and guarded, a few times and some more."""
    for workload in workloads:
        for contender in (contenders.BARE, contenders.BY_NAME["async_guard"]):
            for rounds in (FEW, MORE):
                yield _COMMAND.format(
                    workload=workload.name, contender=contender.name, rounds=rounds
                )


EXPLANATION = f"""\
# "Collected" is the number of instructions. That of {MORE} rounds, less that of {FEW}, is
# {MORE - FEW} runs of the workload; those of async_guard over those of bare are the ratio.
# Take the median over a few seeds: one alone may be 0.02 off.
"""
