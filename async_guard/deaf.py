"""
Where the probe does not listen.

While a hit is being handled, so that handling it cannot set it off again; in the threads of the
sinks; and in a block of code that says so with ``allow_unsafe()``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_thread = threading.local()
_looking_away: ContextVar[bool] = ContextVar("async_guard_looking_away", default=False)


def is_deaf() -> bool:
    return getattr(_thread, "deaf", False) or _looking_away.get()


def call_deaf(call: Callable[..., None], *args: Any) -> None:
    """Call without listening in this thread: ``deafness()`` for where a hit must be cheap."""
    before = getattr(_thread, "deaf", False)
    _thread.deaf = True
    try:
        call(*args)
    finally:
        _thread.deaf = before


def deafen() -> None:
    """Never listen in this thread again."""
    _thread.deaf = True


@contextmanager
def deafness() -> Iterator[None]:
    """Do not listen in this thread until the block ends."""
    before = getattr(_thread, "deaf", False)
    _thread.deaf = True
    try:
        yield
    finally:
        _thread.deaf = before


@contextmanager
def allow_unsafe() -> Iterator[None]:
    """Look away until the block ends, also in tasks and threads that are started in it."""
    token = _looking_away.set(True)
    try:
        yield
    finally:
        _looking_away.reset(token)
