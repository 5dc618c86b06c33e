"""One call that waits for the worker thread: the thread of the request's other synchronous code."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, NoReturn

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from async_guard.retry.context import take_over

CLOSING_TIMEOUT_S = 10.0
"""So long code that is being closed, and so cannot wait in the loop, waits for its statement."""


class Call:
    """
    A function and its arguments, and in the end its result or its exception.

    Both are kept here: a ``Future`` takes no ``StopIteration``, and a cancelled one forgets.
    """

    __slots__ = (
        "_lock",
        "_waiter",
        "args",
        "begins",
        "error",
        "function",
        "is_due",
        "result",
        "state",
    )

    WAITING, RUNNING, DONE, GIVEN_UP = range(4)

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        self.function = function
        self.args = args
        self.result: Any = None
        self.error: BaseException | None = None
        self.state = self.WAITING
        self.begins = False
        """It begins a transaction."""
        self.is_due = False
        """It is carried out whatever happens to the task, and however often."""
        self._lock = threading.Lock()
        self._waiter: Callable[[], object] | None = None

    @property
    def succeeded(self) -> bool:
        return self.state == self.DONE and self.error is None

    def outcome(self) -> Any:
        """Return the result, or raise the exception."""
        if self.error is None:
            return self.result
        try:
            raise_as_below(self.error)
        finally:
            self.error = None  # its traceback leads here

    def run(self) -> None:
        """Carry it out. Called in the worker thread; never raises."""
        with self._lock:
            if self.state == self.GIVEN_UP:
                return
            self.state = self.RUNNING
        try:
            self.result = self.function(*self.args)
        except BaseException as error:
            self.error = error
        with self._lock:
            self.state = self.DONE
            waiter = self._waiter
        if waiter is not None:
            waiter()

    async def carry_out(self, thread: Executor | None = None) -> None:
        """
        Wait until it is done.

        Args:
            thread: where ``sync_to_async`` would do it, if that is known, see ``known_thread``.

        Raises:
            CancelledError: when the task is cancelled, but not before a statement that runs has
                ended: what happened to it must be known, or a transaction is left open.
        """
        carried_out = in_worker(self) if thread is None else self._handed_to(thread)
        if self.is_due:
            await _insisted(carried_out)
            return
        try:
            await carried_out
        except asyncio.CancelledError:
            await self._settled()
            raise

    async def _handed_to(self, thread: Executor) -> None:
        """
        Wait until *thread* has carried it out.

        ``sync_to_async`` would do the same in twice the time: what its future and its shield are
        for, ``Call`` and ``_settled`` see to.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        ended = loop.create_future()
        tasks: list[asyncio.Task[Any]] = []
        self._waiter = functools.partial(loop.call_soon_threadsafe, _end, ended)
        thread.submit(context.run, self._run_for, loop, context, tasks)
        try:
            await ended
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        finally:
            take_over(context)

    def _run_for(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        tasks: list[asyncio.Task[Any]],
    ) -> None:
        """
        Carry it out so that ``async_to_sync`` in it finds its way back to *loop*.

        Args:
            tasks: what is started there is added, while it runs.
        """
        here = SyncToAsync.threadlocal
        here.main_event_loop, here.main_event_loop_pid = loop, os.getpid()
        here.task_context = tasks
        self._run_in(context)

    def _run_in(self, context: contextvars.Context) -> None:
        """Carry it out in *context*, which is another thread's."""
        take_over(context)
        self.run()

    async def _settled(self) -> None:
        """Wait until it is done, or make sure that it never begins."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        with self._lock:
            if self.state == self.WAITING:
                self.state = self.GIVEN_UP
            if self.state != self.RUNNING:
                return
            self._waiter = functools.partial(loop.call_soon_threadsafe, _end, ended)
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                continue  # it is being told already

    def settle_blocking(self) -> None:
        """Wait, without the loop, until it is done, or make sure that it never begins."""
        ended = threading.Event()
        with self._lock:
            if self.state == self.WAITING:
                self.state = self.GIVEN_UP
            if self.state != self.RUNNING:
                return
            self._waiter = ended.set
        ended.wait(CLOSING_TIMEOUT_S)

    def carry_out_blocking(self) -> bool:
        """
        Wait without the loop, for code that is being closed. Tell whether it was done.

        ``GeneratorExit`` allows no ``await``, and a transaction must be ended all the same.
        """
        executor = _executor()
        if executor is None:
            return False
        context = contextvars.copy_context()
        try:
            executor.submit(context.run, self._run_in, context).result(CLOSING_TIMEOUT_S)
        except (RuntimeError, TimeoutError):  # it was shut down, or waits for this thread
            with self._lock:
                if self.state == self.WAITING:
                    self.state = self.GIVEN_UP
            return self.state in (self.RUNNING, self.DONE)
        return True


async def _insisted(coro: Coroutine[Any, Any, None]) -> None:
    """Await *coro* to its end, also while the task is cancelled again and again, as anyio does."""
    task = asyncio.Task(coro, loop=asyncio.get_running_loop())
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def raise_as_below(error: BaseException) -> NoReturn:
    """Raise what was caught elsewhere so that it leads to what is handled here, as it would."""
    handled, chain = sys.exception(), [error]
    while (earlier := chain[-1].__context__) is not None and earlier not in chain:
        chain.append(earlier)
    if handled is None or handled in chain:
        raise error
    context = error.__context__
    chain[-1].__context__ = handled
    try:
        raise error
    except BaseException:
        error.__context__ = context or handled  # else what is handled has taken its place
        raise


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _run(call: Call) -> None:
    call.run()


in_worker = sync_to_async(_run, thread_sensitive=True)


def has_worker_of_its_own() -> bool:
    """Tell whether asgiref has a thread for this request, or that of the caller below."""
    return bool(
        waiting_executor()
        or SyncToAsync.thread_sensitive_context.get(None)
        or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
    )


def waiting_executor() -> Executor | None:
    """Return the thread that waits in ``async_to_sync``, and carries out what that asks for."""
    found: Executor | None = getattr(AsyncToSync.executors, "current", None)
    return found


def known_thread() -> Executor | None:
    """Return the thread of the request, where there is one already and asgiref would take it."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is None or getattr(context, "_exited", False):
        return None
    if waiting_executor():
        return None
    return SyncToAsync.context_to_thread_executor.get(context)


def _executor() -> Executor | None:
    """Return where ``sync_to_async`` would run a call, if such a thread is there already."""
    found = waiting_executor()
    context = SyncToAsync.thread_sensitive_context.get(None)
    if found is None and context is not None:
        return SyncToAsync.context_to_thread_executor.get(context)
    if found is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        found = AsyncToSync.loop_thread_executors.get(loop)
    return found or SyncToAsync.single_thread_executor
