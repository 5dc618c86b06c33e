"""
A guarded call and the tasks that it starts: they share one worker, so one connection per database
and its transaction. Two requests never share one.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from asgiref.sync import SyncToAsync
from django.db import connections

from async_guard.retry.call import Call, has_worker_of_its_own, waiting_executor


class Worker:
    """
    Stands for a thread of asgiref's, as its ``ThreadSensitiveContext`` does.

    A task that outlives the guarded call gets another thread instead of an error.
    """

    _exited = False


class Block(NamedTuple):
    """One time that an ``atomic`` was entered: a decorator's is entered again and again."""

    atomic: Any
    connection: Any


class Flow:
    """What belongs to one guarded call."""

    __slots__ = (
        "__weakref__",
        "_late",
        "_waiters",
        "awaited",
        "connections",
        "held",
        "is_over",
        "loop",
        "turn",
        "worker",
    )

    def __init__(self, awaited: Callable[[Any], None]) -> None:
        self.awaited = awaited
        """Called with a drive that is about to wait while it is in a transaction."""
        self.connections: dict[Any, Any] = {}
        """The ``DatabaseWrapper`` s of the worker, by worker and alias."""
        self.worker: Worker | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where it runs: a thread that it starts may have a loop, and so flows, of its own."""
        self.held: list[Block] = []
        self.turn: tuple[Any, Any] | None = None
        """The task in the middle of a transaction, and below which ``async_to_sync`` it runs."""
        self._waiters: list[asyncio.Future[None]] = []
        self.is_over = False
        """What still runs in it has outlived the guarded call, and its worker."""
        self._late: set[Any] = set()
        """The tasks that use the worker all the same."""

    async def close(self, *, may_await: bool = True) -> None:
        """Close what was opened in a thread of the flow's own, unless a block is not over there."""
        self.is_over = True  # who uses the thread from here on closes it, see outlived_by()
        self.connections.clear()  # another thread may not use them
        call = Call(connections.close_all)
        try:
            if self.worker in _threads() and not self.held:
                if may_await:
                    await call.carry_out(_threads()[self.worker])
                else:
                    call.carry_out_blocking()
        finally:
            self._end_if_unused(is_closed=call.state == Call.DONE)

    def outlived_by(self, task: Any) -> None:
        """*task* is about to use the worker once more: close that, too, when it is done."""
        if self.worker is not None and task is not None and task not in self._late:
            self._late.add(task)
            task.add_done_callback(self._late_ended)

    def _late_ended(self, task: Any) -> None:
        self._late.discard(task)
        self._end_if_unused()

    def _end_if_unused(self, *, is_closed: bool = False) -> None:
        """End the thread, once it has done what waits there and has closed its connections."""
        if self.is_over and not (self._late or self.held) and self.worker in _threads():
            thread = _threads().pop(self.worker)
            if not is_closed:  # nor is it where the wait for that was cancelled
                thread.submit(connections.close_all)
            thread.shutdown(wait=False)

    def hold(self, block: Block) -> None:
        self.held.append(block)
        holders[block.connection] = self

    def release(self, atomic: Any) -> None:
        """It is over: maybe in another task, or step of a stream, than it began in."""
        for block in reversed(self.held):
            if block.atomic is atomic:
                self.held.remove(block)
                if all(other.connection is not block.connection for other in self.held):
                    holders.pop(block.connection, None)
                self._end_if_unused()  # where the retry was turned off, nobody is told of the task
                return

    # A block that awaits nothing is a transaction of its own, as it would be in a plain thread:
    # while its code waits for the worker, the flow's other tasks must not run statements in it.

    def is_turn_of(self, drive: Any) -> bool:
        """Tell whether *drive* may use the worker now."""
        turn = self.turn
        return turn is None or turn[0] is drive or turn[1] is not waiting_executor()

    def begin_turn(self, drive: Any) -> None:
        self.turn = drive, waiting_executor()

    def end_turn(self, drive: Any) -> None:
        """Let the others go on; nothing if it was not the turn of *drive*."""
        if self.turn is not None and self.turn[0] is drive:
            self.turn = None
            waiters, self._waiters = self._waiters, []
            for each in waiters:
                if not each.done():
                    each.set_result(None)

    async def wait_for_turn(self, drive: Any) -> None:
        """Return when no other task of the flow is in the middle of a transaction."""
        while not self.is_turn_of(drive):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def may_use(self, connection: Any) -> bool:
        """Tell whether no other flow, on a shared worker, is in a transaction on *connection*."""
        return not holders or holders.get(connection, self) is self


def _threads() -> Any:
    """Return asgiref's threads, by what stands for them."""
    return SyncToAsync.context_to_thread_executor


holders: weakref.WeakKeyDictionary[Any, Flow] = weakref.WeakKeyDictionary()
"""Whose transaction is open, by connection."""
current: ContextVar[Flow | None] = ContextVar("async_guard_flow", default=None)


def current_in(loop: asyncio.AbstractEventLoop) -> Flow | None:
    """Return the flow that the code belongs to, if that is one of *loop*."""
    found = current.get()
    return found if found is not None and found.loop is loop else None


def nothing(*args: object) -> None:
    """While ``resume`` is off."""


on_enter: Callable[[], None] = nothing
on_exit: Callable[[], None] = nothing
on_await: Callable[[Any], None] = nothing


def new_flow() -> Flow:
    return Flow(on_await)


class entered:
    """
    Joins the task's flow, or else opens one, and closes its connections in the end.

    A class, because an abandoned asynchronous generator would be closed by another task.
    """

    def __init__(self, flow: Flow | None = None) -> None:
        """
        Args:
            flow: one to enter again; who made it closes it.
        """
        self._given = flow
        self._mine: Flow | None = None

    async def __aenter__(self) -> Flow:
        loop = asyncio.get_running_loop()
        outer = current_in(loop)
        if outer is not None:
            return outer
        on_enter()
        self._on_exit = on_exit  # that of now: the retry may be turned off meanwhile
        self._mine = mine = self._given or new_flow()
        mine.loop = loop
        self._own = _with_own_worker(mine)
        self._token = current.set(mine)
        return mine

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        mine = self._mine
        if mine is None:
            return
        try:
            if self._given is None:
                await mine.close(may_await=kind is not GeneratorExit)
        finally:
            _reset(current, self._token)
            self._on_exit()
            if self._own is not None:
                _reset(SyncToAsync.thread_sensitive_context, self._own)


def _with_own_worker(flow: Flow) -> Token[Any] | None:
    """Give *flow* a thread of its own where the requests of a process would share one."""
    # in a thread that a guarded call has started, with a loop of its own
    is_apart = current.get() is not None and waiting_executor() is None
    if has_worker_of_its_own() and not is_apart:
        return None
    flow.worker = flow.worker or Worker()
    return SyncToAsync.thread_sensitive_context.set(flow.worker)  # type: ignore[arg-type]


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    try:
        variable.reset(token)
    except ValueError:  # closed in another context than it was opened in
        return
