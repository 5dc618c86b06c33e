"""
What ``fix`` would change for a problem, as reports show it.

Only values: who makes them needs the checkout and libcst, who shows them needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from async_guard.logs.tally import Tally


class Replacement(NamedTuple):
    """A piece of a file, and the text that takes its place; lines and columns count from 1."""

    line: int
    column: int
    end_line: int
    end_column: int
    """The column behind the last one."""
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """The patch of one problem; without a diff there is none, and the note says why."""

    diff: str = ""
    """A unified diff, for ``git apply`` in the checkout."""
    replacements: Mapping[str, tuple[Replacement, ...]] = field(default_factory=dict)
    """The same, by file; their places are those of the unchanged file."""
    note: str = ""
    """One sentence: why there is no patch, or what is to be seen about it."""
    is_advised: bool = True
    """Nobody looked at the code, so what the advice says may stand for it."""

    @property
    def noted(self) -> str:
        """The note, which says that there is no patch where there is none."""
        return f"No patch: {self.note}" if self.note and not self.diff else self.note


Proposer = Callable[[Tally], Proposal]


def no_proposal(tally: Tally) -> Proposal:
    """Propose nothing: no checkout is at hand."""
    return Proposal()
