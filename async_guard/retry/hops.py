"""
Calls that become ready in one turn of the loop share one hop to the worker thread.

``sync_to_async`` runs them one after the other anyway, so that each of them may as well not pay for
its own way there and back. Each keeps its context, its exception and its cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import DEFAULT_DB_ALIAS, connections

from async_guard.retry.batching import load_together
from async_guard.retry.call import Call, waiting_executor
from async_guard.retry.context import changes, take_over
from async_guard.retry.statements import counted

RERUN = "rerun"
HOP_TIME_S = 0.1
"""A hop that took so long ends: the calls that are left take the next one, others may go first."""


class Job:
    """One call that waits for a hop, and what awaits it."""

    __slots__ = (
        "_before",
        "batched",
        "call",
        "context",
        "ended",
        "error",
        "first",
        "future",
        "is_done",
        "relation",
        "result",
        "route",
        "since",
        "task",
    )

    def __init__(
        self,
        call: tuple[Any, ...],
        ended: Callable[[Job, Hop], None],
        *,
        relation: str | None = None,
        first: Any = None,
        route: Any = None,
    ) -> None:
        self.call = call
        """A function and its arguments: a plan, those of its call, and its keywords."""
        self.ended = ended
        """
        Called in the loop with the job and the hop that carried it out; settles the future, which
        is done where nobody waits any more.
        """
        self.relation = relation
        """What is loaded for the sources of all jobs at once."""
        self.first = first
        """The run in the loop that it is for."""
        self.route = route
        """What sent it here without one."""
        self.context = contextvars.copy_context()
        self._before: contextvars.Context | None = None
        self.task = asyncio.current_task()
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.batched = False
        self.since = time.perf_counter()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            result = yield from self.future.__await__()
        finally:
            self._take_over_changes()
        if hasattr(result, "__await__"):  # a synchronous function may give an awaitable
            result = yield from result.__await__()
        return result

    def _take_over_changes(self) -> None:
        """Set what the call has set, and nothing that was undone since the call was handed in."""
        if self._before is not None:
            take_over(changes(self._before, self.context))

    @property
    def source(self) -> Any:
        """The object that the call is about."""
        arguments = self.call[2]
        return arguments[0] if arguments else None

    def run(self) -> None:
        """Carry out the call in its own context. Called in the worker thread; never raises."""
        if self.future.cancelled():
            return
        try:
            self.result = self.in_context(*self.call)
        except BaseException as error:
            self.error = error
        self.is_done = True

    def in_context(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* in the context of the call, in whatever thread this is."""
        return self.context.run(self._here, function, args)

    def _here(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        take_over(self.context)
        self._before = self._before or contextvars.copy_context()
        return function(*args)


class Hop:
    """What is carried out in one go."""

    def __init__(self, jobs: list[Job], *, batching: bool) -> None:
        self.jobs = jobs
        self.done = 0
        self.queries = 0
        self._batching = batching
        self.routed: dict[Any, list[Job]] = {}
        """The jobs that a route sent here, by what they have in common: told together."""

    def run(self) -> None:
        """Carry out the jobs, or as many as there is time for. Called in the worker thread."""
        with ExitStack() as stack:
            opened = connections.all(initialized_only=True)
            for each in {*opened, connections[DEFAULT_DB_ALIAS]}:
                stack.enter_context(counted(each, self._count))
            if self._batching:
                with suppress(Exception):  # then each resolver loads for itself
                    load_together(self.jobs)
            ends = time.perf_counter() + HOP_TIME_S
            for job in self.jobs:
                job.run()
                self.done += 1
                if time.perf_counter() > ends:
                    return

    def how(self, job: Job, took_s: float) -> dict[str, Any]:
        """Return keyword arguments of ``Hit`` about a retry that the hop carried out."""
        return {
            "retry_strategy": RERUN,
            "retry_duration_ms": round(took_s * 1000, 3),
            "retry_hop_size": self.done or len(self.jobs),
            "retry_batched": job.batched,
            "retry_queries": self.queries,
        }

    def _count(self, execute: Any, *args: Any) -> Any:
        self.queries += 1
        return execute(*args)


class Hops:
    """The jobs that wait, by loop and by worker thread."""

    def __init__(self, *, size: int, most: int, batching: bool) -> None:
        self._size = size
        self._most = most
        self._batching = batching
        self._waiting: dict[Any, list[Job]] = {}
        self.on_end: Callable[[Hop], None] = lambda hop: None
        """Called in the loop when all jobs of a hop are settled."""

    def has_room(self) -> bool:
        """Tell whether one more may wait."""
        waiting = list(self._waiting.values())  # other threads have loops, too
        return sum(map(len, waiting)) < self._most

    def submit(self, job: Job) -> Job:
        """Have *job* carried out with all that are submitted in this turn of the loop."""
        loop = asyncio.get_running_loop()
        # what async_to_sync waits for is carried out by the thread that waits
        key = loop, SyncToAsync.thread_sensitive_context.get(None), waiting_executor()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            loop.call_soon(self._start, key)
        waiting.append(job)
        return job

    def _start(self, key: Any) -> None:
        task = asyncio.Task(self._serve(key), loop=key[0])
        _running.add(task)
        task.add_done_callback(_running.discard)

    async def _serve(self, key: Any) -> None:
        """Hop until nobody waits any more."""
        waiting = self._waiting[key]
        try:
            while waiting:
                hop = Hop(waiting[: self._size], batching=self._batching)
                del waiting[: self._size]
                call = Call(hop.run)
                try:
                    await call.carry_out()
                finally:
                    failed = call.error or (None if call.succeeded else asyncio.CancelledError())
                    waiting[:0] = [] if failed else hop.jobs[hop.done :]
                    _end(hop, failed)
                    self.on_end(hop)
        finally:
            del self._waiting[key]
            for job in waiting:
                job.future.cancel()


def _end(hop: Hop, failed: BaseException | None) -> None:
    for job in hop.jobs if failed else hop.jobs[: hop.done]:
        if failed is not None and not job.is_done and not job.future.done():
            job.error = failed
        try:
            job.ended(job, hop)
        except Exception as error:  # the others must not wait for ever
            if not job.future.done():
                job.future.set_exception(error)
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # whoever awaits it may be gone: that is no news


_running: set[asyncio.Task[None]] = set()
