"""
Wires the pipeline: a probe notices an access, a hit describes it, an advice says what to write
instead, sinks pass it on.

A hit is described where it is noticed, because only there is the stack; but how it ends is known
later. Until then it is *pending*: it is settled when its exception dies, or when the operation,
the request or ``flush()`` asks, whichever comes first.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import fnmatch
import logging
import os
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

from django.core.signals import got_request_exception
from django.utils.module_loading import import_string

from async_guard import callsite, origin
from async_guard.access import learn_frames
from async_guard.advice import advise, describe
from async_guard.callsite import Stack, frame_list, read_stack
from async_guard.deaf import deafness, is_deaf
from async_guard.hit import (
    ASYNC_TO_SYNC,
    BLOCKING_ORM,
    N_PLUS_ONE,
    SUMMARY,
    SYNC_ORM,
    Hit,
    package_version,
)
from async_guard.limiter import Drained, Limiter
from async_guard.loads import COUNTED, Load, tell_loads
from async_guard.origin import Operation, read_origin
from async_guard.outcome import ALLOWED, HANDLED, RAISED, SWALLOWED, has_surfaced, read_outcome
from async_guard.probe import Probe
from async_guard.problem import Problem, Problems
from async_guard.settings import Settings, get_settings
from async_guard.sinks import FileSink, LogSink, Sink
from async_guard.timing import Stopwatch
from async_guard.writer import Writer

logger = logging.getLogger("async_guard")
SETTLE_AFTER_S = 5.0


class PendingHit:
    """A hit whose end is not known yet."""

    __slots__ = (
        "context",
        "error",
        "guard",
        "hit",
        "is_full",
        "key",
        "operation",
        "since",
        "strong",
    )

    def __init__(self, guard: Guard, hit: Hit, *, is_full: bool, error: BaseException) -> None:
        self.guard = guard
        self.key = id(error)
        self.hit = hit
        self.is_full = is_full
        self.since = time.monotonic()
        self.operation = origin.current.get()
        self.context = contextvars.copy_context() if is_full else None
        self.strong: BaseException | None = None
        try:
            self.error: Any = weakref.ref(error)
        except TypeError:  # asgiref's RuntimeError: kept until the loop's next turn
            self.error = None
            self.strong = error

    def the_error(self) -> BaseException | None:
        return self.strong if self.error is None else self.error()

    def escaped(self) -> str:
        """Return the outcome of an exception that left its task and was never seen again."""
        return RAISED if self.operation is None else SWALLOWED

    def settle(self, outcome: str | None = None) -> None:
        """End it, as *outcome* or as far as the exception's traceback tells now."""
        self.guard.settle(self, outcome)


class Guard:
    """The one guard of a process."""

    def __init__(self) -> None:
        self._probe = Probe(self)
        self._stopwatch = Stopwatch()
        self._pending: dict[int, PendingHit] = {}
        self._extra_sinks: list[Sink] = []
        self._writers: list[Writer] = []
        self._settings = Settings()
        self._problems = Problems(4 * self._settings.MAX_FINGERPRINTS)
        self._limiter = Limiter(self._settings.BURST, self._settings.MAX_FINGERPRINTS)
        self._loads: weakref.WeakSet[Operation] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._summary_due = 0.0
        self._failed = False

    # --- install and uninstall -----------------------------------------------------------------

    @property
    def installed(self) -> bool:
        return self._probe.installed

    def install(self) -> None:
        """
        Patch every seam and open the sinks; installing twice is installing once.

        Raises:
            ImproperlyConfigured: if ``ASYNC_GUARD`` is wrong.
            SeamMissing: if Django lacks one of the seams; then nothing is patched.
        """
        with self._lock:
            if self.installed:
                return
            self._configure(get_settings())
            self._probe.install()
            got_request_exception.connect(self._request_failed, dispatch_uid="async_guard")

    def uninstall(self) -> None:
        """Give Django back the very objects that it had, and write what was noticed."""
        with self._lock:
            if not self.installed:
                return
            self._probe.uninstall()
            self._stopwatch.restore()
            got_request_exception.disconnect(dispatch_uid="async_guard")
            self.flush()
            for writer in self._writers:
                writer.stop(time.monotonic() + 1)
                close = getattr(writer.sink, "close", None)
                if close is not None:
                    close()
            self._writers = []

    def _configure(self, settings: Settings) -> None:
        from django.conf import settings as django_settings

        self._settings = settings
        callsite.configure(
            base_dir=getattr(django_settings, "BASE_DIR", None),
            project_paths=settings.PROJECT_PATHS,
            library_paths=settings.LIBRARY_PATHS,
        )
        learn_frames()
        self._problems = Problems(4 * settings.MAX_FINGERPRINTS)
        self._limiter = Limiter(settings.BURST, settings.MAX_FINGERPRINTS)
        self._summary_due = time.monotonic() + settings.SUMMARY_INTERVAL_S
        sinks: list[Any] = [LogSink()]
        if settings.LOG_FILE is not None:
            sinks.append(FileSink(settings.LOG_FILE))
        sinks += [import_string(path) for path in settings.SINKS]
        self._writers = [self._writer(sink, first=sink is sinks[0]) for sink in sinks]
        self._writers += [self._writer(sink) for sink in self._extra_sinks]

    def _writer(self, sink: Any, *, first: bool = False) -> Writer:
        tick = self._tick if first else None
        return Writer(sink, most=self._settings.QUEUE_SIZE, tick=tick, is_log=first)

    def add_sink(self, sink: Sink) -> None:
        """Pass every hit, also the counted ones, to *sink* from now on."""
        with self._lock:
            self._extra_sinks.append(sink)
            if self.installed:
                self._writers.append(self._writer(sink))

    def remove_sink(self, sink: Sink) -> None:
        """Pass no more hits to *sink*; those noticed before are delivered first."""
        self.flush()
        with self._lock:
            self._extra_sinks.remove(sink)
            for writer in [each for each in self._writers if each.sink is sink]:
                self._writers.remove(writer)
                writer.stop(time.monotonic() + 1)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch until the block ends, whatever ``ENABLED`` says; then be as before."""
        before = self.installed
        self.install()
        try:
            yield
        finally:
            if not before:
                self.uninstall()

    # --- what the probe reports ----------------------------------------------------------------

    def refused(self, error: BaseException) -> None:
        if is_deaf():
            return
        with deafness():
            try:
                self._refused(error, sys._getframe(2))
            except Exception:
                self._fail()

    def died(self, error: BaseException) -> None:
        pending = self._pending.pop(id(error), None)
        if pending is None:
            return
        with deafness():
            try:
                self._finish(pending, self._outcome(pending, error))
            except Exception:
                self._fail()

    def allowed(self) -> None:
        if is_deaf():
            return
        with deafness():
            try:
                self._allowed(sys._getframe(2))
            except Exception:
                self._fail()

    def loaded(self, queryset: Any) -> None:
        if is_deaf() or not self._settings.N_PLUS_ONE_THRESHOLD:
            return
        with deafness():
            try:
                self._loaded(sys._getframe(2))
            except Exception:
                self._fail()

    def _fail(self) -> None:
        """An error of ours never breaks a request; it is told once."""
        if not self._failed:
            self._failed = True
            logger.exception("async_guard could not describe a hit; please report this")

    # --- from an access to a hit -----------------------------------------------------------------

    def _refused(self, error: BaseException, frame: FrameType) -> None:
        kind = ASYNC_TO_SYNC if isinstance(error, RuntimeError) else SYNC_ORM
        problem = self._problems.of(kind, read_stack(frame))
        if self._is_allowed_to(problem):
            return
        is_full = self._limiter.admit(problem.fingerprint)
        hit = self._hit(problem, frame, type(error).__name__, is_full=is_full)
        pending = PendingHit(self, hit, is_full=is_full, error=error)
        self._pending[pending.key] = pending
        if pending.operation is not None:
            remember(pending.operation.pending, pending)
        if pending.strong is not None:
            asyncio.get_running_loop().call_soon(pending.settle)

    def _allowed(self, frame: FrameType) -> None:
        stack = read_stack(frame)
        unsafe = [each for each, _ in stack.frames if each.f_code is frame.f_code]
        if len(unsafe) > 1:
            return  # part of a call that was noticed already
        problem = self._problems.of(BLOCKING_ORM, stack)
        if self._is_allowed_to(problem):
            return
        is_full = self._limiter.admit(problem.fingerprint)
        hit = self._hit(problem, frame, None, is_full=is_full)
        context = contextvars.copy_context() if is_full else None
        operation = origin.current.get()

        def report(duration_ms: float) -> None:
            timed = replace(hit, duration_ms=round(duration_ms, 3))
            with deafness():
                self._emit(
                    timed, ALLOWED, is_full=is_full, context=context, operation=operation
                )

        self._stopwatch.time_call(frame, report)

    def _loaded(self, frame: FrameType) -> None:
        stack = read_stack(frame)
        operation = origin.current.get() or self._operation_of_thread(stack, frame)
        if operation is None:
            return
        problem = self._problems.of(N_PLUS_ONE, stack)
        if problem.access.access not in COUNTED or problem.access.operation == "prefetch":
            return
        if self._is_allowed_to(problem):
            return
        load = operation.loads.setdefault(problem.fingerprint, Load())
        load.count += 1
        if load.count == self._settings.N_PLUS_ONE_THRESHOLD:
            self._loads.add(operation)
            load.context = contextvars.copy_context()
            load.hit = self._hit(problem, frame, None, is_full=True)

    def _operation_of_thread(self, stack: Stack, frame: FrameType) -> Operation | None:
        """
        Return the operation of a ``sync_to_async`` call that belongs to no request.

        asgiref carries what is set here back into the task, so its later calls share it; it ends
        with the task.
        """
        for each, known in callsite.outer_frames(frame):
            if known.package == "asgiref" and each.f_code.co_name == "thread_handler":
                operation = Operation()
                weakref.finalize(operation, self._tell_loads, operation.loads)
                origin.current.set(operation)
                return operation
        return None

    def _is_allowed_to(self, problem: Problem) -> bool:
        patterns = self._settings.ALLOWLIST
        if not patterns:
            return False
        names = (
            problem.access.relation,
            problem.access.model,
            problem.site.path,
            problem.site.function,
            f"{problem.site.path}:{problem.site.line}",
        )
        return any(
            fnmatch.fnmatchcase(name, pattern) for name in names if name for pattern in patterns
        )

    def _hit(
        self, problem: Problem, frame: FrameType, exception: str | None, *, is_full: bool
    ) -> Hit:
        """Describe the access; one that is only counted does without its origin and frames."""
        if problem.hit is None:
            problem.hit = self._hit_without_origin(problem, exception)
        if not is_full and not self._extra_sinks:
            return problem.hit
        names = asdict(read_origin(frame)[0])
        return replace(
            problem.hit,
            hit_id=uuid.uuid4().hex,
            frames=tuple(frame_list(frame)),
            process_pid=os.getpid(),
            **{_ORIGIN.get(name, name): value for name, value in names.items()},
        )

    def _hit_without_origin(self, problem: Problem, exception: str | None) -> Hit:
        access, site, settings = problem.access, problem.site, self._settings
        return Hit(
            version=package_version(),
            kind=problem.kind,
            access=access.access,
            relation=access.relation,
            orm_model=access.model,
            orm_field=access.field,
            orm_operation=access.operation,
            orm_alias=access.alias,
            owner=access.owner,
            owner_package=access.owner_package,
            fingerprint=problem.fingerprint,
            function=site.function,
            path=site.path,
            line=site.line,
            column=site.column,
            end_line=site.end_line,
            end_column=site.end_column,
            text=site.text,
            in_async_def=site.in_async_def,
            on_stack=site.on_stack,
            digest=site.digest,
            exception_type=exception,
            service_name=settings.SERVICE_NAME,
            service_version=settings.SERVICE_VERSION,
            environment=settings.ENVIRONMENT,
        )

    # --- from a hit to its outcome -----------------------------------------------------------------

    def settle(self, pending: PendingHit, outcome: str | None = None) -> None:
        if self._pending.pop(pending.key, None) is not pending:
            return  # it was settled before
        error = pending.the_error()
        with deafness():
            try:
                known = outcome or (RAISED if error is None else self._outcome(pending, error))
                self._finish(pending, known)
            except Exception:
                self._fail()

    def _outcome(self, pending: PendingHit, error: BaseException) -> str:
        operation = pending.operation
        if operation is not None and operation.is_answering():
            if has_surfaced(error.__traceback__):
                return SWALLOWED  # an extension dropped it before the answer was given
        return read_outcome(error, escaped=pending.escaped())

    def _finish(self, pending: PendingHit, outcome: str) -> None:
        pending.strong = None
        self._emit(
            pending.hit,
            outcome,
            is_full=pending.is_full,
            context=pending.context,
            operation=pending.operation,
        )

    def end_operation(self, operation: Operation) -> None:
        """Settle what *operation* hit, now that it is known which errors it answered with."""
        shown = {id(each) for error in operation.errors for each in chain_of(error)}
        pending, operation.pending = operation.pending, []
        for each in pending:
            error = each.the_error()
            if error is not None:
                each.settle(self._answered(error, id(error) in shown, operation))
        self._tell_loads(operation.loads)

    def _answered(self, error: BaseException, is_shown: bool, operation: Operation) -> str | None:
        if is_shown:
            return RAISED
        hidden = operation.graphql is not None and has_surfaced(error.__traceback__)
        return SWALLOWED if hidden else None

    def _request_failed(self, *, request: Any = None, **kwargs: object) -> None:
        """Django is about to answer with an error page: what it shows was raised."""
        operation, error = origin.current.get(), sys.exc_info()[1]
        if operation is not None and error is not None:
            remember(operation.errors, error)

    # --- from a hit to the sinks -------------------------------------------------------------------

    def _emit(
        self,
        hit: Hit,
        outcome: str,
        *,
        is_full: bool,
        context: contextvars.Context | None,
        operation: Operation | None,
    ) -> None:
        self._limiter.total(outcome, hit.count)
        logged = is_full and (outcome != HANDLED or self._settings.LOG_HANDLED)
        if not logged:
            self._limiter.count(hit, outcome, hit.count)
            if not self._extra_sinks:
                return
        hit = self._told(replace(hit, outcome=outcome))
        if operation is not None and operation.exposed is not None and logged:
            remember(operation.exposed, hit)
        self._pass_on(hit, context or contextvars.copy_context(), logged=logged)

    def _pass_on(self, hit: Hit, context: contextvars.Context, *, logged: bool) -> None:
        for writer in list(self._writers):
            wanted = logged or writer.sink in self._extra_sinks
            if wanted and not writer.put(writer.sink, hit, context=context.copy()):
                self._limiter.dropped(hit, writer.is_log)

    def _told(self, hit: Hit) -> Hit:
        advice = advise(hit)
        hit = replace(hit, rule=advice.rule, advice=advice.sentence, docs=advice.docs)
        return replace(hit, message=f"{describe(hit)} {advice.sentence}")

    def _tell_loads(self, loads: dict[Any, Load]) -> None:
        tell_loads(loads, self._tell_load)

    def _tell_load(self, hit: Hit, count: int, context: contextvars.Context) -> None:
        is_full = self._limiter.admit(hit.fingerprint)
        operation = context.get(origin.current)
        self._emit(
            replace(hit, count=count, hit_id=uuid.uuid4().hex),
            ALLOWED,
            is_full=is_full,
            context=context,
            operation=operation,
        )

    def _tick(self) -> None:
        """Done about once a second in the first sink's thread."""
        old = time.monotonic() - SETTLE_AFTER_S
        for pending in list(self._pending.values()):
            if pending.since < old:
                pending.settle()
        if time.monotonic() >= self._summary_due:
            self._summarise()

    def _summarise(self) -> None:
        self._summary_due = time.monotonic() + self._settings.SUMMARY_INTERVAL_S
        drained = self._limiter.drain()
        if not drained:
            return
        context = contextvars.Context()
        for writer in self._writers:
            note = getattr(writer.sink, "note", None)
            if note is not None:
                for level, keys in summary_events(drained, self._told):
                    writer.put(note, SUMMARY, level, keys, context=context.copy())

    def flush(self, timeout: float = 5.0) -> bool:
        """
        Return when all that was noticed has been written.

        Returns:
            False if a sink did not finish within *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        for pending in list(self._pending.values()):
            pending.settle()
        for operation in list(self._loads):
            self._tell_loads(operation.loads)
        with deafness():
            self._summarise()
        return all([writer.flush(deadline) for writer in self._writers])

    def totals(self) -> dict[str, int]:
        """Return how many hits there were by outcome since the guard was installed."""
        return dict(self._limiter.totals)

    def after_fork(self) -> None:
        """Begin anew in a child process: threads and locks of the parent are gone."""
        self._lock = threading.RLock()
        self._pending.clear()
        self._limiter = Limiter(self._settings.BURST, self._settings.MAX_FINGERPRINTS)
        for writer in self._writers:
            writer.forget()


_ORIGIN = {
    "field": "graphql_field",
    "path": "graphql_path",
    "resolver": "graphql_resolver",
    "parent": "graphql_parent",
    "method": "http_method",
    "route": "http_route",
}
MOST_REMEMBERED = 1000


def remember(items: list[Any], item: Any) -> None:
    """Append to a list that must not grow for ever in an operation that does not end."""
    if len(items) >= MOST_REMEMBERED:
        del items[: MOST_REMEMBERED // 2]
    items.append(item)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, what it was raised from, what it wraps, and the members of groups."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [each.__cause__, each.__context__, getattr(each, "original_error", None)]
        todo += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


def summary_events(drained: Drained, told: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield level and keys: one event per fingerprint and outcome, and one for what was lost."""
    for count in drained.counts:
        hit = told(count.hit)
        keys = {
            key: value
            for key, value in hit.to_dict().items()
            if key not in ("async_guard.hit_id", "async_guard.frames", "request_id")
        }
        yield ("debug" if hit.outcome == HANDLED else "info"), keys
    if drained.unnamed or drained.evicted or drained.dropped:
        yield (
            "warning",
            {
                "message": f"async_guard forgot {drained.evicted} fingerprints; raise "
                "ASYNC_GUARD['MAX_FINGERPRINTS'] to remember more.",
                "async_guard.version": package_version(),
                "async_guard.count": drained.unnamed,
                "async_guard.dropped": drained.dropped,
                "async_guard.evicted": drained.evicted,
                "async_guard.evicted_fingerprints": drained.evicted_sample,
            },
        )


guard = Guard()
os.register_at_fork(after_in_child=guard.after_fork)
atexit.register(guard.uninstall)

install = guard.install
uninstall = guard.uninstall
guarded = guard.guarded
flush = guard.flush
totals = guard.totals


def installed() -> bool:
    """Tell whether the probe is in place."""
    return guard.installed
