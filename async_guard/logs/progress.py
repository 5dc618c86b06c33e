"""A bar on stderr while a long input is read by somebody at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from async_guard.logs.reading import Progress

LONG = 64 << 20
WIDTH = 30
EVERY_S = 0.1


@contextmanager
def progress_bar(size: int) -> Iterator[Progress | None]:
    """Show how much of *size* bytes is read, if it is much and somebody looks."""
    if size < LONG or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(size)
    try:
        yield bar
    finally:
        bar.clear()


class _Bar:
    def __init__(self, size: int) -> None:
        self._size = size
        self._done = 0
        self._due = 0.0

    def __call__(self, more: int) -> None:
        self._done += more
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_S
            share = min(1.0, self._done / self._size)
            full = int(WIDTH * share)
            bar = "█" * full + "░" * (WIDTH - full)
            sys.stderr.write(f"\rReading {bar} {share:4.0%} of {self._size / 1e9:.1f} GB")
            sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
