"""For the test suites of the projects that use async_guard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from async_guard.guard import guard
from async_guard.hit import Hit


@contextmanager
def capture_hits() -> Iterator[list[Hit]]:
    """
    Watch until the block ends and collect its hits.

    Returns:
        A list, complete after the block, or after ``async_guard.flush()`` in it. Every hit is in
        it in full, whatever ``BURST`` says, also those that the code handled.
    """
    hits: list[Hit] = []

    def collect(hit: Hit, /) -> None:
        hits.append(hit)

    with guard.guarded():
        guard.add_sink(collect)
        try:
            yield hits
        finally:
            guard.remove_sink(collect)
