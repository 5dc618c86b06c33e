"""
Where the probe does not listen.

While a hit is being handled, so that handling it cannot set it off again; in the threads of the
sinks; and in a block of code that says so with ``allow_unsafe()``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any


class _Thread(threading.local):
    deaf = False


_thread = _Thread()
_looking_away: ContextVar[bool] = ContextVar("async_guard_looking_away", default=False)


def is_deaf() -> bool:
    return _thread.deaf or _looking_away.get()


def deafen() -> None:
    """Never listen in this thread again."""
    _thread.deaf = True


class Deafness:
    """Does not listen in this thread until the block ends. Cheaper than a generator would be."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _thread.deaf
        _thread.deaf = True

    def __exit__(self, *error: object) -> None:
        _thread.deaf = self._before


def look_away(call: Callable[..., Any], *args: Any) -> None:
    """Call with the context looking away for good: for one that is not used for anything else."""
    _looking_away.set(True)
    call(*args)


@contextmanager
def allow_unsafe() -> Iterator[None]:
    """Look away until the block ends, also in tasks and threads that are started in it."""
    token = _looking_away.set(True)
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator may be closed in another context
            _looking_away.reset(token)
