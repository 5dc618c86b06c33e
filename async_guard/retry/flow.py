"""
A guarded call and the tasks that it starts: they share one worker, so one connection per database
and its transaction. Two requests never share one.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar, Token
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections

from async_guard.retry.call import Call, has_worker_of_its_own


class Worker:
    """
    Stands for a thread of asgiref's, as its ``ThreadSensitiveContext`` does.

    asgiref ends the thread when nobody refers to this any more, so a task that outlives the
    guarded call keeps its thread.
    """

    _exited = False


class Flow:
    """What belongs to one guarded call."""

    __slots__ = ("__weakref__", "awaited", "connections", "held", "worker")

    def __init__(self, awaited: Callable[[Any], None]) -> None:
        self.awaited = awaited
        """Called with a drive that is about to wait while it is in a transaction."""
        self.connections: dict[Any, Any] = {}
        """The ``DatabaseWrapper`` s of the worker, by worker and alias."""
        self.worker: Worker | None = None
        self.held: list[Any] = []
        """Those that it is in a transaction on, once for each block."""

    async def close(self) -> None:
        """Close what was opened in a thread of the flow's own."""
        if self.worker is not None and self.connections:
            await Call(connections.close_all).carry_out()

    def hold(self, connection: Any) -> None:
        self.held.append(connection)
        holders[connection] = self

    def release(self, connection: Any) -> None:
        self.held.remove(connection)
        if connection not in self.held:
            holders.pop(connection, None)

    def may_use(self, connection: Any) -> bool:
        """Tell whether no other flow, on a shared worker, is in a transaction on *connection*."""
        return not holders or holders.get(connection, self) is self


holders: weakref.WeakKeyDictionary[Any, Flow] = weakref.WeakKeyDictionary()
"""Whose transaction is open, by connection."""
current: ContextVar[Flow | None] = ContextVar("async_guard_flow", default=None)


def nothing(*args: object) -> None:
    """While ``resume`` is off."""


on_enter: Callable[[], None] = nothing
on_exit: Callable[[], None] = nothing
on_await: Callable[[Any], None] = nothing


def new_flow() -> Flow:
    return Flow(on_await)


@asynccontextmanager
async def entered(flow: Flow | None = None) -> AsyncIterator[Flow]:
    """
    Join the task's flow, or else open one, and close its connections in the end.

    Args:
        flow: one to enter again; who made it closes it.
    """
    outer = current.get()
    if outer is not None:
        yield outer
        return
    on_enter()
    mine = flow or new_flow()
    token, own = current.set(mine), _with_own_worker(mine)
    try:
        yield mine
    finally:
        try:
            if flow is None:
                await mine.close()
        finally:
            _reset(current, token)
            on_exit()
            if own is not None:
                _reset(SyncToAsync.thread_sensitive_context, own)


def _with_own_worker(flow: Flow) -> Token[Any] | None:
    """Give *flow* a thread of its own where the requests of a process would share one."""
    if has_worker_of_its_own():
        return None
    flow.worker = flow.worker or Worker()
    return SyncToAsync.thread_sensitive_context.set(flow.worker)  # type: ignore[arg-type]


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    try:
        variable.reset(token)
    except ValueError:  # closed in another context than it was opened in
        return
