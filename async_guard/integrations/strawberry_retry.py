"""
Has Strawberry's operations driven where nothing around them is: executed by hand, over WebSockets.

An operation below ``AsyncGuardMiddleware`` is driven already, and runs as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from strawberry import Schema

from async_guard.probe import Seam
from async_guard.retry.resume import DrivenGenerator, driven


def seams() -> Iterable[Seam]:
    """Return what is replaced while ``resume`` is on."""
    for name in ("execute", "stream", "subscribe"):
        if name in vars(Schema):
            yield Seam(Schema, name, _driven)


def _driven(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def run(schema: Any, *args: Any, **kwargs: Any) -> Any:
        result = await driven(original(schema, *args, **kwargs))
        if inspect.isasyncgen(result):
            return DrivenGenerator(result)
        return result

    return run
