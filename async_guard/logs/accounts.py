"""What became of the lines that were read: nothing is lost without a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

FIRST = 10


class Loss(NamedTuple):
    """Something of ours that could not be read, and where it stands."""

    file: str
    offset: int
    """In bytes, of the decompressed file."""
    reason: str


@dataclass(slots=True)
class Accounts:
    """Counts of lines and events; those of several readers are added up."""

    files: int = 0
    size: int = 0
    """Bytes read, after decompression."""
    lines: int = 0
    ours: int = 0
    """Lines with something of ours in them; the others are foreign."""
    events: int = 0
    """Hits and summaries that were read, those that filters left out too."""
    recovered: int = 0
    """Events read from damaged lines."""
    lost: int = 0
    """Events that could not be read."""
    cut: int = 0
    """Lines cut so early that nobody can tell whether they were ours."""
    unread: int = 0
    """Lines for people that name an event and hold none; they are foreign."""
    repeated: int = 0
    """Hits left out because their id had been read before."""
    newer: int = 0
    """Events of a major version that this reader does not know."""
    undated: int = 0
    """Events that ``--since`` and ``--until`` left out because they say no time."""
    unnamed: int = 0
    """Hits that the guard counted without a fingerprint, because it had room for no more."""
    dropped: int = 0
    """Events that the guard's full queue refused; they are in the counts."""
    first_lost: list[Loss] = field(default_factory=list)
    first_unread: Loss | None = None

    @property
    def foreign(self) -> int:
        return self.lines - self.ours

    @property
    def is_whole(self) -> bool:
        return not (self.lost or self.cut or self.unread)

    def lose(self, file: str, offset: int, reason: str, count: int = 1) -> None:
        self.lost += count
        self._remember(Loss(file, offset, reason))

    def cut_off(self, file: str, offset: int) -> None:
        self.cut += 1
        self._remember(Loss(file, offset, "cut before it says what it is"))

    def leave_unread(self, file: str, offset: int, name: str) -> None:
        self.unread += 1
        self.first_unread = self.first_unread or Loss(file, offset, f"{name} without its event")

    def _remember(self, loss: Loss) -> None:
        self.first_lost = sorted({*self.first_lost, loss})[:FIRST]

    def rename(self, file: str) -> None:
        """Say *file* for the one file that was read."""
        self.first_lost = [loss._replace(file=file) for loss in self.first_lost]
        self.first_unread = self.first_unread and self.first_unread._replace(file=file)

    def add(self, other: Accounts) -> None:
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for loss in other.first_lost:
            self._remember(loss)
        self.first_unread = self.first_unread or other.first_unread


_NUMBERS = (
    *("files", "size", "lines", "ours", "events", "recovered", "lost", "cut", "unread"),
    *("repeated", "newer", "undated", "unnamed", "dropped"),
)
