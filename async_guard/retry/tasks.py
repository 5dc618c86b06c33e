"""Tasks that a guarded call starts belong to it: a task factory has them driven, too."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from async_guard.retry import flow
from async_guard.retry.resume import Driven, flow_opened

_factories: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()
"""Ours and the one before it, by loop."""


def watch() -> None:
    """A flow opens: have the tasks of its loop made by a factory of ours, on top of any other."""
    loop = asyncio.get_running_loop()
    flow_opened()
    if loop not in _factories:
        before = loop.get_task_factory()
        ours = _Factory(before)
        _factories[loop] = ours, before
        loop.set_task_factory(ours)


def restore() -> None:
    """Give every loop the factory back that it had."""
    while _factories:
        loop, (ours, before) = _factories.popitem()
        if not loop.is_closed() and loop.get_task_factory() is ours:
            loop.set_task_factory(before)


class _Factory:
    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, loop: Any, coro: Any, **kwargs: Any) -> Any:
        context = kwargs.get("context")
        mine = flow.current.get() if context is None else context.get(flow.current)
        if mine is not None and mine.loop is loop and type(coro) is not Driven:
            coro = Driven(coro, mine)
        if self._before is not None:
            return self._before(loop, coro, **kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)
