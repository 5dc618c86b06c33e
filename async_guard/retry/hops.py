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
from contextlib import ExitStack
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections

from async_guard.retry.batching import load_together
from async_guard.retry.call import Call

HOP_TIME_S = 0.1
"""A hop that took so long ends: the calls that are left take the next one, others may go first."""


class Job:
    """One call that waits for a hop, and what awaits it."""

    __slots__ = (
        "batched",
        "call",
        "context",
        "ended",
        "future",
        "relation",
        "since",
        "source",
    )

    def __init__(
        self,
        call: Callable[[], Any],
        ended: Callable[[Job, Hop], None],
        *,
        source: Any = None,
        relation: str | None = None,
    ) -> None:
        self.context = contextvars.copy_context()
        self.call = Call(call)
        self.ended = ended
        """Called in the loop with the job and the hop that carried it out; settles the future."""
        self.source = source
        self.relation = relation
        self.batched = False
        self.since = time.perf_counter()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, Any, Any]:
        result = yield from self.future.__await__()
        restore(self.context)
        return result

    def took_s(self) -> float:
        """Return the seconds since it was submitted."""
        return time.perf_counter() - self.since

    def run(self) -> None:
        """Carry out the call in its own context. Called in the worker thread."""
        if not self.future.cancelled():
            self.context.run(self.call.run)


def restore(context: contextvars.Context) -> None:
    """Set what the worker changed in its copy of the context, as ``sync_to_async`` does."""
    for variable, value in context.items():
        try:
            if variable.get() is value:
                continue
        except LookupError:
            pass
        variable.set(value)


class Hop:
    """What is carried out in one go."""

    def __init__(self, jobs: list[Job], *, batching: bool) -> None:
        self.jobs = jobs
        self.done = 0
        self.queries = 0
        self._batching = batching
        self._to_tell: dict[Any, list[Any]] = {}

    def tell_later(self, key: Any, tell: Callable[[int], None]) -> None:
        """Have *tell* called once, with how many jobs asked for it."""
        self._to_tell.setdefault(key, [tell, 0])[1] += 1

    def tell(self) -> None:
        for tell, times in self._to_tell.values():
            tell(times)

    def run(self) -> None:
        """Carry out the jobs, or as many as there is time for. Called in the worker thread."""
        with ExitStack() as stack:
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(self._count))
            if self._batching:
                load_together(self.jobs)
            ends = time.perf_counter() + HOP_TIME_S
            for job in self.jobs:
                job.run()
                self.done += 1
                if time.perf_counter() > ends:
                    return

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

    def has_room(self) -> bool:
        """Tell whether one more may wait."""
        return sum(map(len, self._waiting.values())) < self._most

    def submit(self, job: Job) -> Job:
        """Have *job* carried out with all that are submitted in this turn of the loop."""
        loop = asyncio.get_running_loop()
        key = loop, SyncToAsync.thread_sensitive_context.get(None)
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
        finally:
            del self._waiting[key]
            for job in waiting:
                job.future.cancel()


def _end(hop: Hop, failed: BaseException | None) -> None:
    for job in hop.jobs if failed else hop.jobs[: hop.done]:
        if job.future.done():
            continue
        if failed is not None and job.call.state == Call.WAITING:
            job.call.error = failed
        job.ended(job, hop)
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # whoever awaits it may be gone: that is no news
    hop.tell()


_running: set[asyncio.Task[None]] = set()
