"""
Locks that the standard library holds while it runs other people's code.

Such code may wait for the worker, and the worker may want the same lock: it would never come back.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_RLOCK: Any = type(threading.RLock())
_HOLDING = {
    logging.Handler.handle.__code__,  # while it formats a record: ``__str__`` of what is logged
    functools.cached_property.__get__.__code__,  # of all instances at once, up to Python 3.11
}


def held_locks(frame: FrameType | None) -> list[Any]:
    """Return those that the code of this thread, from *frame* outwards, holds."""
    found: list[Any] = []
    while frame is not None:
        if frame.f_code in _HOLDING:
            lock = getattr(frame.f_locals["self"], "lock", None)
            if isinstance(lock, _RLOCK) and lock._is_owned() and lock not in found:
                found.append(lock)
        frame = frame.f_back
    return found


@contextmanager
def released(locks: list[Any]) -> Iterator[None]:
    """Let go of locks until the block ends, as a ``Condition`` does while it waits."""
    states = [lock._release_save() for lock in locks]
    try:
        yield
    finally:
        for lock, state in zip(reversed(locks), reversed(states), strict=True):
            lock._acquire_restore(state)
