"""
A thread with a bounded queue of things to do, off the event loop.

A file write on the loop is itself blocking, and a sink may be slow, so nothing of it happens in
the request. After ``fork`` the child begins with an empty queue and without the thread.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from async_guard.deaf import Deafness, deafen, look_away

THREAD = "async_guard"


def is_writer_thread() -> bool:
    """Tell whether this is a thread of ours."""
    return threading.current_thread().name == THREAD


class Writer:
    """Does one thing after the other in a thread of its own. The thread starts when asked."""

    def __init__(
        self,
        sink: Any,
        *,
        most: int,
        tick: Callable[[], None] | None = None,
        every: float = 1.0,
        failed: Callable[[Any, BaseException], None] | None = None,
    ) -> None:
        """
        Args:
            sink: whose thread it is, for the message if one of its calls raises.
            most: calls that may wait.
            failed: told of the first exception that a call raised.
            tick: called in the thread every so many seconds (*every*), also while it is idle.
        """
        self.sink = sink
        self._most = most
        self._tick = tick
        self._every = every
        self._failed = failed
        self.forget()

    def forget(self) -> None:
        """Begin with an empty queue and no thread, as a child process must after ``fork``."""
        # put() of a SimpleQueue is reentrant: a finaliser may call it in the middle of another
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._working = threading.RLock()
        self._thread: threading.Thread | None = None

    def pause(self, deadline: float) -> bool:
        """
        Have the thread begin nothing more, and wait for what it does; ``go_on`` lets it.

        Returns:
            False if *deadline* (monotonic) came first: it was not paused.
        """
        return self._working.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def go_on(self) -> None:
        self._working.release()

    def start(self) -> None:
        """Start the thread, if it does not run; ``flush()`` does without one."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
                with suppress(RuntimeError):  # no new threads while the interpreter ends
                    thread.start()
                    self._thread = thread

    def put(self, call: Callable[..., Any], *args: Any, context: contextvars.Context) -> bool:
        """
        Have ``call(*args)`` done in *context*, which nothing else may be running in.

        Returns:
            False if there is no room.
        """
        if self._queue.qsize() >= self._most:
            return False
        self._queue.put((call, args, context))
        return True

    def flush(self, deadline: float) -> bool:
        """Wait until all that was put is done; False: *deadline* (monotonic) came first."""
        thread = self._thread
        if thread is None or not thread.is_alive():
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
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._thread = None

    def _run(self) -> None:
        deafen()  # for good: what a sink does with the database is no hit
        source = self._queue
        due = time.monotonic() + self._every
        while True:
            wait = max(0.0, due - time.monotonic()) if self._tick else None
            with suppress(queue.Empty):
                item = source.get(timeout=wait)
                if item is None:
                    return
                self._do(item)
                del item  # its context is a request's: not until the next hit comes
            if self._tick is not None and time.monotonic() >= due:
                due = time.monotonic() + self._every
                self._do((self._tick, (), contextvars.Context()))

    def _drain(self) -> None:
        """Do all that waits, here."""
        with Deafness(), suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    self._do(item)

    def _do(self, item: tuple[Callable[..., Any], tuple[Any, ...], contextvars.Context]) -> None:
        call, args, context = item
        try:
            with self._working:
                context.run(look_away, call, *args)  # a sink may use other threads, and loops
        except BaseException as error:  # also SystemExit: it would end the thread
            failed, self._failed = self._failed, None
            if failed is not None:
                with suppress(Exception):
                    failed(self.sink, error)
        finally:
            _close_connections()


def _close_connections() -> None:
    """Leave no connection open that a sink opened in this thread."""
    from django.db import connections

    if is_writer_thread():
        for connection in connections.all(initialized_only=True):
            with suppress(Exception):  # a driver may fail to close what broke
                connection.close_if_unusable_or_obsolete()
