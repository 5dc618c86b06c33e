"""Context variables go to the worker with a call, and come back with it."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any

from asgiref import sync

_MISSING = object()


def _take_over(context: Mapping[contextvars.ContextVar[Any], Any]) -> None:
    for variable, value in context.items():
        try:
            if variable.get() is value:
                continue
        except LookupError:
            pass
        variable.set(value)


take_over: Any = getattr(sync, "_restore_context", _take_over)
"""
Makes the values of a context those of the code that runs, as ``sync_to_async`` does.

What ``asgiref.local.Local`` holds, Django's active language and time zone among it, belongs to a
thread since asgiref 3.13, and is lost in any other unless asgiref takes it there.
"""


def changes(
    before: contextvars.Context, after: contextvars.Context
) -> dict[contextvars.ContextVar[Any], Any]:
    """Return the variables that have another value in *after* than *before*."""
    return {
        variable: value
        for variable, value in after.items()
        if before.get(variable, _MISSING) is not value
    }
