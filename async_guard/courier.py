"""
Carries hits from where they are settled to the sinks: the first ones in full, then counts.

A hit may be settled by a finaliser, in the middle of any other code, so ``deliver`` takes no lock
that the interrupted code could hold (the limiter's is reentrant, a ``SimpleQueue`` needs none) and
starts no thread. ``start`` does that, from where hits are noticed.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.utils.module_loading import import_string

from async_guard.advice import advise, describe
from async_guard.callsite import frame_list
from async_guard.deaf import look_away
from async_guard.hit import DROPPED, SINK_FAILED, STARTED, SUMMARY, Hit, package_version
from async_guard.limiter import Counts, Drained, Limiter
from async_guard.origin import Operation
from async_guard.outcome import HANDLED
from async_guard.pending import remember
from async_guard.settings import Settings
from async_guard.sinks import FileSink, LogSink, Sink, readable
from async_guard.started import started_keys
from async_guard.writer import Writer, is_writer_thread

logger = logging.getLogger("async_guard")
TICK_S = 0.5
FORK_WAIT_S = 1.0


class Outlet:
    """A sink, its thread, and what there was no room for in its queue."""

    def __init__(
        self,
        sink: Any,
        settings: Settings,
        *,
        failed: Callable[..., None],
        seams: Callable[[], Iterable[str]],
    ) -> None:
        self.sink = sink
        self._settings = settings
        self._seams = seams
        self._has_begun = False
        self.note: Any = getattr(sink, "note", None)
        """Logs take summaries, too."""
        self.wants_context = isinstance(sink, LogSink)
        """The project's processors read its contextvars; other sinks are nobody's request."""
        self.missed = Counts(settings.MAX_FINGERPRINTS)
        self.writer = Writer(sink, most=settings.QUEUE_SIZE, failed=failed)

    def pass_on(self, hit: Hit, context: contextvars.Context) -> None:
        own = context.copy() if self.wants_context else contextvars.Context()
        if not self.put(self.sink, hit, context=own):
            self.missed.drop(hit, hit.outcome)
        self.writer.start()

    def put(self, call: Callable[..., Any], *args: Any, context: contextvars.Context) -> bool:
        """Have the sink called, and before its first time what it is called for told."""
        if self.note is not None and not self._has_begun:
            return self.writer.put(self._begin, call, *args, context=context)
        return self.writer.put(call, *args, context=context)

    def _begin(self, call: Callable[..., Any], *args: Any) -> None:
        try:
            if not self._has_begun:
                keys = started_keys(self._settings, self._seams())
                nobody = contextvars.Context()  # whichever request it was that came first
                nobody.run(look_away, self.note, STARTED, "info", keys)
                self._has_begun = True
        finally:
            call(*args)

    def after_fork(self) -> None:
        """Begin anew in a child process."""
        self._has_begun = False
        self.missed = Counts(self._settings.MAX_FINGERPRINTS)
        self.writer.forget()

    def summarise(self, drained: Drained) -> None:
        """Write what was counted, and what this sink missed; keep what finds no room again."""
        if self.note is None:
            return
        self.missed.put_back(drained)
        mine = self.missed.drain()
        if not mine:
            return
        put = self.put(self._write, mine, context=contextvars.Context())
        if not put:
            self.missed.put_back(mine)
        self.writer.start()

    def flush(self, deadline: float) -> bool:
        """Write all that waits, and then what had found no room."""
        while self.writer.flush(deadline):
            if self.note is None or not self.missed:
                return True
            self.summarise(Drained())
        return False

    def _write(self, drained: Drained) -> None:
        for event, level, keys in summary_events(drained):
            self.note(event, level, keys)


class Courier:
    """The sinks of a process, what was only counted, and the threads that serve them."""

    def __init__(
        self, tick: Callable[[], None], seams: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """
        Args:
            tick: called twice a second once there were hits, in a thread of the courier's.
            seams: asked what is watched, for the first line of each log.
        """
        self._tick_outside = tick
        self._seams = seams
        self._extra: list[Sink] = []
        self._outlets: list[Outlet] = []
        self._paused: dict[int, list[Writer]] = {}
        """What each thread that forks right now has paused."""
        self.wants_all = False
        """Somebody wants every hit in full, whatever ``BURST`` says."""
        self.open(Settings(), with_sinks=False)

    def open(self, settings: Settings, *, with_sinks: bool = True) -> None:
        """Begin with the settings' sinks and nothing counted."""
        sinks = [*_sinks_of(settings), *self._extra] if with_sinks else []
        self._settings = settings
        self.limiter = Limiter(settings.BURST, settings.MAX_FINGERPRINTS)
        self._first: dict[str, Hit] = {}
        """By fingerprint, what was logged in full: it names the field, and a count does not."""
        self._summary_lock = threading.RLock()
        self.is_closing = False
        self._summary_due = time.monotonic() + settings.SUMMARY_INTERVAL_S
        self._desk = Writer(
            None,
            most=settings.QUEUE_SIZE,
            tick=self._tick,
            every=TICK_S,
            failed=self._sink_failed,
        )
        self._outlets = [self._outlet(sink) for sink in sinks]

    def _outlet(self, sink: Any) -> Outlet:
        return Outlet(sink, self._settings, failed=self._sink_failed, seams=self._seams)

    def close(self, deadline: float) -> None:
        """End the threads, and close the files."""
        for writer in self._writers():
            writer.stop(deadline)
            close = getattr(writer.sink, "close", None)
            if close is not None:
                close()
        self._outlets = []

    def _writers(self) -> list[Writer]:
        return [self._desk, *(outlet.writer for outlet in list(self._outlets))]

    def start(self) -> None:
        """Start the thread that the others are started from."""
        self._desk.start()

    def add_sink(self, sink: Sink) -> None:
        self._extra.append(sink)
        self.wants_all = True
        self._outlets.append(self._outlet(sink))

    def remove_sink(self, sink: Sink) -> None:
        self._extra.remove(sink)
        self.wants_all = bool(self._extra)
        for outlet in [each for each in self._outlets if each.sink == sink]:
            self._outlets.remove(outlet)
            outlet.writer.stop(time.monotonic() + 1)

    def _sink_failed(self, sink: Any, error: BaseException) -> None:
        """Tell the other logs, once; the traceback could hold values, so the type has to do."""
        name = getattr(sink, "__qualname__", type(sink).__qualname__)
        keys = {
            "message": f"The sink {name} raised {type(error).__name__}. This is told once.",
            "async_guard.version": package_version(),
            "async_guard.sink": name,
            "exception.type": type(error).__name__,
        }
        self.note(SINK_FAILED, "error", keys, but=sink)
        if isinstance(sink, LogSink):
            logger.error("%s", readable(SINK_FAILED, keys))

    def note(self, event: str, level: str, keys: dict[str, Any], *, but: Any = None) -> None:
        """Write an event that is no hit to the logs, *but* to one."""
        for outlet in list(self._outlets):
            if outlet.note is not None and outlet.sink is not but:
                outlet.put(outlet.note, event, level, keys, context=contextvars.Context())
                outlet.writer.start()

    # --- from a hit to the sinks ---------------------------------------------------------------

    def deliver(
        self,
        hit: Hit,
        outcome: str,
        *,
        is_full: bool,
        context: contextvars.Context | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Pass on a hit that is settled: in full, or as a count. Called from finalisers, too."""
        logged = is_full and (outcome != HANDLED or self._settings.LOG_HANDLED)
        if logged:
            self.limiter.total(outcome, hit.count)
        else:
            self.count(hit, outcome, hit.count)
        if operation is not None and operation.exposed is not None and outcome != HANDLED:
            remember(operation.exposed, hit.changed(outcome=outcome))
        if logged or self._extra:
            context = context or contextvars.copy_context()
            args = hit, outcome, logged, context
            put = self._desk.put(self._pass_on, *args, context=contextvars.Context())
            if not put and logged:
                self.limiter.drop(hit, outcome)

    def _pass_on(self, hit: Hit, outcome: str, logged: bool, context: contextvars.Context) -> None:
        hit = told(hit, outcome)
        if logged:
            if len(self._first) >= self._settings.MAX_FINGERPRINTS:
                self._first.clear()
            self._first.setdefault(hit.fingerprint, hit.changed(frames=()))
        for outlet in list(self._outlets):
            if logged or outlet.sink in self._extra:
                outlet.pass_on(hit, context)

    # --- what was counted ----------------------------------------------------------------------

    def count(self, hit: Hit, outcome: str, times: int) -> None:
        """Count a hit that is settled for the next summary, which may be due at once."""
        self.limiter.count(hit, outcome, times)
        if self.is_closing:
            self.summarise_soon()

    def _tick(self) -> None:
        self._tick_outside()
        if time.monotonic() >= self._summary_due:
            self.summarise()

    def hurry(self) -> None:
        """Summarise whatever is counted from now on at once: the process is about to end."""
        self.is_closing = True
        self.summarise_soon()

    def summarise_soon(self) -> None:
        """Have it done in the courier's thread; may be called from anywhere."""
        self._desk.put(self.summarise, context=contextvars.Context())

    def summarise(self) -> None:
        """Write what was counted since the last time."""
        with self._summary_lock:  # what one thread drained is in the queues when another looks
            self._summary_due = time.monotonic() + self._settings.SUMMARY_INTERVAL_S
            drained = self.limiter.drain()
            drained.hits = [
                told(_of_many(hit), like=self._first.get(hit.fingerprint)) for hit in drained.hits
            ]
            for outlet in list(self._outlets):
                outlet.summarise(drained)

    def flush(self, deadline: float) -> bool:
        """Write all that was delivered; False: *deadline* (``time.monotonic()``) came first."""
        if is_writer_thread():
            return True  # a sink that flushes waits neither for itself nor for another that does
        done = self._desk.flush(deadline)
        self.summarise()
        for outlet in list(self._outlets):
            done = outlet.flush(deadline) and done
        return done

    def before_fork(self) -> None:
        """
        Wait until no thread of ours writes, if that is soon.

        What a log locks meanwhile, such as structlog's ``PrintLogger``, is locked for ever in the
        child, for the project's own lines, too.
        """
        deadline = time.monotonic() + FORK_WAIT_S
        paused = [each for each in self._writers() if each.pause(deadline)]
        self._paused[threading.get_ident()] = paused

    def after_fork_in_parent(self) -> None:
        for writer in self._paused.pop(threading.get_ident(), ()):
            writer.go_on()

    def after_fork(self) -> None:
        """Begin anew in a child process: the parent writes what the parent noticed."""
        self.limiter = Limiter(self._settings.BURST, self._settings.MAX_FINGERPRINTS)
        self._summary_lock = threading.RLock()
        self._paused.clear()
        self._desk.forget()
        for outlet in self._outlets:
            outlet.after_fork()


def _sinks_of(settings: Settings) -> Iterator[Any]:
    yield LogSink()
    if settings.LOG_FILE is not None:
        yield FileSink(settings.LOG_FILE)
    for path in settings.SINKS:
        yield import_string(path)


def told(hit: Hit, outcome: str | None = None, *, like: Hit | None = None) -> Hit:
    """
    Return *hit* as sinks get it: with what to write instead, and the sentence for people.

    Args:
        like: another of its fingerprint, of which more is known; its advice is given.
    """
    hit = hit.changed(outcome=outcome or hit.outcome, frames=tuple(frame_list(hit.frames)))
    advice = advise(like.changed(outcome=hit.outcome) if like is not None else hit)
    return hit.changed(
        rule=advice.rule,
        advice=advice.sentence,
        docs=advice.docs,
        message=f"{describe(hit)} {advice.sentence}",
    )


def _of_many(hit: Hit) -> Hit:
    """Return *hit* without the names that its sentence would begin with, but for its line's."""
    return hit.changed(graphql_field=None, view=None)


_OF_ONE_HIT = (
    "async_guard.hit_id",
    "async_guard.frames",
    "async_guard.task",
    "async_guard.duration_ms",
    "async_guard.retry.",
    "async_guard.graphql.",
    "async_guard.view",
    "graphql.",
    "http.",
    "request_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "trace_flags",
)
"""How the names of these keys begin."""


def summary_events(drained: Drained) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, level and keys: one per fingerprint and outcome, and what tells of losses."""
    for hit in drained.hits:
        keys = {k: value for k, value in hit.to_dict().items() if not k.startswith(_OF_ONE_HIT)}
        level = "debug" if hit.outcome == HANDLED else "info"
        yield SUMMARY, level, keys | {"process.pid": os.getpid()}
    if drained.evicted or drained.unnamed:
        yield SUMMARY, "warning", _forgotten(drained)
    if drained.dropped:
        yield DROPPED, "warning", _dropped(drained)


def _forgotten(drained: Drained) -> dict[str, Any]:
    return {
        "message": f"async_guard forgot {drained.evicted} fingerprints. "
        "Raise MAX_FINGERPRINTS to keep more.",
        "async_guard.version": package_version(),
        "async_guard.count": drained.unnamed,
        "async_guard.evicted": drained.evicted,
        "async_guard.evicted_fingerprints": drained.evicted_sample,
    }


def _dropped(drained: Drained) -> dict[str, Any]:
    return {
        "message": f"async_guard dropped {drained.dropped} events, for which a slow log had no "
        "room; their hits are counted in summaries. Raise QUEUE_SIZE to keep more.",
        "async_guard.version": package_version(),
        "async_guard.dropped": drained.dropped,
    }
