"""Counts the statements of a connection, beside the project's own wrappers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def counted(connection: Any, count: Callable[..., Any]) -> Iterator[None]:
    """
    Have *count* around every statement until the block ends.

    Not with ``execute_wrapper()``: that takes away whatever wrapper is the last one when it ends,
    and another task of the request may have put its own there meanwhile.
    """
    connection.execute_wrappers.insert(0, count)
    try:
        yield
    finally:
        connection.execute_wrappers.remove(count)
