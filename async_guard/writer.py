"""
Carries hits to the sinks, off the event loop: one thread and one bounded queue per sink.

A file write on the loop is itself blocking, and a sink may be slow, so nothing of it happens in
the request. The thread starts with the first hit. After ``fork`` the child begins with an empty
queue: what the parent had noticed is the parent's to write.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from async_guard.deaf import deafen, deafness

logger = logging.getLogger("async_guard")


class Writer:
    """Calls one sink in a thread of its own."""

    def __init__(
        self,
        sink: Callable[..., Any],
        *,
        most: int,
        tick: Callable[[], None] | None = None,
        every: float = 1.0,
        is_log: bool = False,
    ) -> None:
        """
        Args:
            sink: what to call.
            is_log: this one is the log that totals are read from.
            most: items that may wait.
            tick: called in the thread every so many seconds (*every*), also while it is idle.
        """
        self.sink = sink
        self._most = most
        self._tick = tick
        self._every = every
        self.is_log = is_log
        self._failed = False
        self.forget()

    def forget(self) -> None:
        """Begin with an empty queue and no thread, as a child process must after ``fork``."""
        # put() of a SimpleQueue is reentrant: a finaliser may call it in the middle of another
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if it does not run; ``flush()`` does without one."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="async_guard", daemon=True)
                    with suppress(RuntimeError):  # no new threads while the interpreter ends
                        thread.start()
                        self._thread = thread

    def put(self, call: Callable[..., Any], *args: Any, context: contextvars.Context) -> bool:
        """Have ``call(*args)`` done in *context*; False: there is no room."""
        if self._queue.qsize() >= self._most:
            return False
        self._queue.put((call, args, context))
        self.start()
        return True

    def flush(self, deadline: float) -> bool:
        """Wait until all that was put is done; False: *deadline* (monotonic) came first."""
        if self._thread is None or not self._thread.is_alive():
            self._drain()
            return True
        done = threading.Event()
        self._queue.put((done.set, (), contextvars.Context()))
        return done.wait(max(0.0, deadline - time.monotonic()))

    def stop(self, deadline: float) -> None:
        """End the thread when all is done."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            thread.join(max(0.0, deadline - time.monotonic()))
        self._thread = None

    def _run(self) -> None:
        deafen()  # for good: what a sink does with the database is no hit
        source, due = self._queue, time.monotonic() + self._every
        while True:
            try:
                item = source.get(timeout=max(0.0, due - time.monotonic()) if self._tick else None)
            except queue.Empty:
                due = time.monotonic() + self._every
                self._guarded(self._tick)
                continue
            if item is None:
                return
            call, args, context = item
            self._guarded(context.run, call, *args)
            if self._tick and time.monotonic() >= due:
                due = time.monotonic() + self._every
                self._guarded(self._tick)

    def _drain(self) -> None:
        """Do all that waits, here."""
        with deafness(), suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    call, args, context = item
                    self._guarded(context.run, call, *args)

    def _guarded(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("async_guard.sink_failed: %r raised; it is told once", self.sink)
        finally:
            _close_connections()


def _close_connections() -> None:
    """Leave no connection open that a sink opened in this thread."""
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
