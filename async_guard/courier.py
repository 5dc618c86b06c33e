"""
Carries hits from where they are settled to the sinks: the first ones in full, then counts.

A hit may be settled by a finaliser, in the middle of any other code, so ``deliver`` takes no lock
that the interrupted code could hold (the limiter's is reentrant, a ``SimpleQueue`` needs none) and
starts no thread. ``start`` does that, from where hits are noticed.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from django.utils.module_loading import import_string

from async_guard.advice import advise, describe
from async_guard.hit import SINK_FAILED, SUMMARY, Hit, package_version
from async_guard.limiter import Drained, Limiter
from async_guard.origin import Operation
from async_guard.outcome import HANDLED
from async_guard.pending import remember
from async_guard.settings import Settings
from async_guard.sinks import FileSink, LogSink, Sink, readable
from async_guard.writer import Writer

logger = logging.getLogger("async_guard")
TICK_S = 0.5


class Courier:
    """The sinks of a process, what was only counted, and the threads that serve them."""

    def __init__(self, tick: Callable[[], None]) -> None:
        """
        Args:
            tick: called twice a second once there were hits, in a thread of the courier's.
        """
        self._tick_outside = tick
        self._extra: list[Sink] = []
        self.wants_all = False
        """Somebody wants every hit in full, whatever ``BURST`` says."""
        self._writers: list[Writer] = []
        self.open(Settings(), with_sinks=False)

    def open(self, settings: Settings, *, with_sinks: bool = True) -> None:
        """Begin with the settings' sinks and nothing counted."""
        self._settings = settings
        self.limiter = Limiter(settings.BURST, settings.MAX_FINGERPRINTS)
        self._is_closing = False
        self._summary_due = time.monotonic() + settings.SUMMARY_INTERVAL_S
        self._desk = Writer(None, most=settings.QUEUE_SIZE, tick=self._tick, every=TICK_S)
        sinks = [*_sinks_of(settings), *self._extra] if with_sinks else []
        self._writers = [self._writer(sink) for sink in sinks]

    def close(self) -> None:
        """Write what there is, and end the threads."""
        self.flush(time.monotonic() + 5)
        for writer in (self._desk, *self._writers):
            writer.stop(time.monotonic() + 1)
            close = getattr(writer.sink, "close", None)
            if close is not None:
                close()
        self._writers = []

    def start(self) -> None:
        """Start the thread that the others are started from."""
        self._desk.start()

    def add_sink(self, sink: Sink) -> None:
        self._extra.append(sink)
        self.wants_all = True
        self._writers.append(self._writer(sink))

    def _writer(self, sink: Sink) -> Writer:
        return Writer(sink, most=self._settings.QUEUE_SIZE, failed=self._sink_failed)

    def _sink_failed(self, sink: Any, error: Exception) -> None:
        """Tell the other logs, once; the traceback could hold values, so the type has to do."""
        name = getattr(sink, "__qualname__", type(sink).__qualname__)
        keys = {
            "message": f"The sink {name} raised {type(error).__name__}. This is told once.",
            "async_guard.version": package_version(),
            "async_guard.sink": name,
            "exception.type": type(error).__name__,
        }
        for writer in list(self._writers):
            note = getattr(writer.sink, "note", None)
            if note is not None and writer.sink is not sink:
                writer.put(note, SINK_FAILED, "error", keys, context=_NO_CONTEXT.copy())
                writer.start()
        if isinstance(sink, LogSink):
            logger.error("%s", readable(SINK_FAILED, keys))

    def remove_sink(self, sink: Sink) -> None:
        self._extra.remove(sink)
        self.wants_all = bool(self._extra)
        for writer in [each for each in self._writers if each.sink is sink]:
            self._writers.remove(writer)
            writer.stop(time.monotonic() + 1)

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
            self.limiter.count(hit, outcome, hit.count)
        if operation is not None and operation.exposed is not None and outcome != HANDLED:
            remember(operation.exposed, told(replace(hit, outcome=outcome)))
        if logged or self._extra:
            self._put(self._pass_on, hit, outcome, logged, context=context)

    def _put(
        self, call: Callable[..., Any], hit: Hit, outcome: str, logged: bool, *, context: Any
    ) -> None:
        context = context or contextvars.copy_context()
        if not self._desk.put(call, hit, outcome, logged, context, context=_NO_CONTEXT.copy()):
            self.limiter.dropped(hit, outcome, is_counted=not logged)

    def _pass_on(self, hit: Hit, outcome: str, logged: bool, context: contextvars.Context) -> None:
        hit = told(replace(hit, outcome=outcome))
        for writer in list(self._writers):
            if logged or writer.sink in self._extra:
                is_log = isinstance(writer.sink, LogSink)
                if not writer.put(writer.sink, hit, context=context.copy()):
                    self.limiter.dropped(hit, outcome, is_counted=not is_log)
                writer.start()

    # --- what was counted ----------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_outside()
        if self._is_closing or time.monotonic() >= self._summary_due:
            self.summarise()

    def hurry(self) -> None:
        """Summarise at every tick from now on: the process is about to end."""
        self._is_closing = True
        self._desk.put(self.summarise, context=_NO_CONTEXT.copy())

    def summarise(self) -> None:
        """Write what was counted since the last time."""
        self._summary_due = time.monotonic() + self._settings.SUMMARY_INTERVAL_S
        drained = self.limiter.drain()
        if not drained:
            return
        for writer in list(self._writers):
            note = getattr(writer.sink, "note", None)
            if note is not None:
                for level, keys in summary_events(drained):
                    writer.put(note, SUMMARY, level, keys, context=_NO_CONTEXT.copy(), must=True)
                writer.start()

    def flush(self, deadline: float) -> bool:
        """Write all that was delivered; False: *deadline* (``time.monotonic()``) came first."""
        done = self._desk.flush(deadline)
        self.summarise()
        flushed = [writer.flush(deadline) for writer in list(self._writers)]
        return done and all(flushed)

    def after_fork(self) -> None:
        """Begin anew in a child process: the parent writes what the parent noticed."""
        self.limiter = Limiter(self._settings.BURST, self._settings.MAX_FINGERPRINTS)
        for writer in (self._desk, *self._writers):
            writer.forget()


_NO_CONTEXT = contextvars.Context()


def _sinks_of(settings: Settings) -> Iterator[Any]:
    yield LogSink()
    if settings.LOG_FILE is not None:
        yield FileSink(settings.LOG_FILE)
    for path in settings.SINKS:
        yield import_string(path)


def told(hit: Hit) -> Hit:
    """Return *hit* with what to write instead, and the sentence for people."""
    advice = advise(hit)
    hit = replace(hit, rule=advice.rule, advice=advice.sentence, docs=advice.docs)
    return replace(hit, message=f"{describe(hit)} {advice.sentence}")


_OF_ONE_HIT = {"async_guard.hit_id", "async_guard.frames", "async_guard.task", "request_id"}


def summary_events(drained: Drained) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield level and keys: one event per fingerprint and outcome, and one for what was lost."""
    for hit in drained.hits:
        keys = {key: value for key, value in told(hit).to_dict().items() if key not in _OF_ONE_HIT}
        yield ("debug" if hit.outcome == HANDLED else "info"), keys
    if drained.is_lossy:
        yield "warning", _losses(drained)


def _losses(drained: Drained) -> dict[str, Any]:
    return {
        "message": f"async_guard forgot {drained.evicted} fingerprints and dropped "
        f"{drained.dropped} events. Raise MAX_FINGERPRINTS or QUEUE_SIZE to keep more.",
        "async_guard.version": package_version(),
        "async_guard.count": drained.unnamed,
        "async_guard.dropped": drained.dropped,
        "async_guard.evicted": drained.evicted,
        "async_guard.evicted_fingerprints": drained.evicted_sample,
    }
