"""
Wires the pipeline: a probe notices an access, a hit describes it, an advice says what to write
instead, sinks pass it on.
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
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from types import FrameType
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import got_request_exception

from async_guard import callsite, origin
from async_guard.access import cause_of, learn_frames
from async_guard.callsite import read_stack, walk
from async_guard.courier import Courier
from async_guard.deaf import Deafness, is_deaf
from async_guard.hit import (
    ASYNC_TO_SYNC,
    BLOCKING_ORM,
    N_PLUS_ONE,
    SYNC_ORM,
    Hit,
    new_hit_id,
    package_version,
)
from async_guard.loads import COUNTED, Load, tell_loads
from async_guard.origin import FieldOrigin, Operation, Origin, origin_of, read_origin
from async_guard.outcome import ALLOWED
from async_guard.pending import PendingHit, PendingHits, remember
from async_guard.probe import Probe
from async_guard.problem import Problem, Problems
from async_guard.retry.modes import OFF, switch
from async_guard.retry.watch import watch
from async_guard.settings import Settings, get_settings
from async_guard.shutdown import ShutdownSignal
from async_guard.sinks import Sink
from async_guard.timing import Stopwatch

logger = logging.getLogger("async_guard")
SETTLE_AFTER_S = 5.0


class Guard:
    """The one guard of a process. It is the probe's listener."""

    def __init__(self) -> None:
        self._probe = Probe(self)
        self._stopwatch = Stopwatch()
        self._courier = Courier(self._tick, self._probe.seam_names)
        self._pending = PendingHits(self._deliver)
        self._signal = ShutdownSignal(self._courier.hurry)
        self._settings = Settings()
        self._problems = Problems(self._settings.MAX_FINGERPRINTS)
        self._loads: weakref.WeakSet[Operation] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._failed = False
        self._blocks = 0
        self._installed_before = False

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
            self._signal.install()
            self._end_with_children()
            try:
                switch.set(self._settings.AUTO_RETRY)
            except BaseException:
                self.uninstall()
                raise

    def _configure(self, settings: Settings) -> None:
        self._settings = settings
        callsite.configure(
            base_dir=getattr(django_settings, "BASE_DIR", None),
            project_paths=settings.PROJECT_PATHS,
            library_paths=settings.LIBRARY_PATHS,
        )
        learn_frames()
        origin.learn_libraries()
        package_version()  # it reads files, so not when the first hit comes
        self._problems = Problems(settings.MAX_FINGERPRINTS)
        self._courier.open(settings)

    def uninstall(self) -> None:
        """Give Django back the very objects that it had, and write what was noticed."""
        with self._lock:
            if not self.installed:
                return
            switch.set(OFF)
            self._probe.uninstall()
            self._stopwatch.restore()
            self._signal.uninstall()
            got_request_exception.disconnect(dispatch_uid="async_guard")
            self.flush()
            self._courier.close(time.monotonic() + 1)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch until the block ends, whatever ``ENABLED`` says; then be as before."""
        with self._lock:
            if not self._blocks:
                self._installed_before = self.installed
                self.install()
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks and not self._installed_before:
                    self.uninstall()

    def add_sink(self, sink: Sink) -> None:
        """Pass every hit, also the counted ones, to *sink* from now on."""
        self.flush()  # what was noticed before is not its business
        with self._lock:
            self._courier.add_sink(sink)

    def remove_sink(self, sink: Sink) -> None:
        """Pass no more hits to *sink*; those noticed before are delivered first."""
        self.flush()
        with self._lock:
            self._courier.remove_sink(sink)

    def before_fork(self) -> None:
        self._courier.before_fork()

    def after_fork_in_parent(self) -> None:
        self._courier.after_fork_in_parent()

    def after_fork(self) -> None:
        """Begin anew in a child process: threads and locks of the parent are gone."""
        self._lock = threading.RLock()
        self._pending.forget()
        self._courier.after_fork()
        for operation in list(self._loads):
            for load in operation.loads.values():
                load.told = load.count
        self._end_with_children()

    def _end_with_children(self) -> None:
        """Children of multiprocessing end without ``atexit``, but with finalizers of their own."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(
                self, lambda guard: util.Finalize(None, guard.flush, exitpriority=100)
            )

    # --- what the probe reports ----------------------------------------------------------------

    def refused(self, error: BaseException) -> None:
        if is_deaf():
            return
        try:
            with Deafness():
                self._refused(error, sys._getframe(2))
        except Exception:
            self.fail()

    def died(self, error: BaseException) -> None:
        try:
            self._pending.died(error)  # only reads a traceback: nothing to be deaf to
        except Exception:
            self.fail()

    def allowed(self) -> None:
        if not is_deaf():
            self._safely(self._allowed, sys._getframe(2))

    def loaded(self, queryset: Any) -> None:
        if not is_deaf() and self._settings.N_PLUS_ONE_THRESHOLD:
            self._safely(self._loaded, sys._getframe(2))

    def _safely(self, call: Callable[..., None], *args: Any) -> None:
        try:
            with Deafness():
                call(*args)
        except Exception:
            self.fail()

    def fail(self) -> None:
        """An error of ours never breaks a request; it is told once."""
        if not self._failed:
            self._failed = True
            kind, _, trace = sys.exc_info()
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            line = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "?"
            name = kind.__name__ if kind else "?"  # its message could hold a value
            logger.error("async_guard could not describe a hit: %s in %s", name, line)

    # --- from an access to a hit ---------------------------------------------------------------

    def _refused(self, error: BaseException, frame: FrameType) -> None:
        kind = ASYNC_TO_SYNC if isinstance(error, RuntimeError) else SYNC_ORM
        problem = self._problems.of(kind, frame)
        if self._is_allowed(problem):
            return
        is_full = self._admit(problem)
        hit = self._hit(problem, frame, type(error).__name__, is_full=is_full)
        pending = PendingHit(hit, error, is_full=is_full, innermost=problem.innermost)
        self._pending.add(pending)
        if watch.codes and isinstance(error, SynchronousOnlyOperation):
            self._hold(pending, problem, frame)
        if pending.strong is not None:
            settle = self._pending.settle_if_at_rest
            asyncio.get_running_loop().call_soon(self._safely, settle, pending)

    def _hold(self, pending: PendingHit, problem: Problem, frame: FrameType) -> None:
        """Have the hit wait for the retry, if the call that it is part of may be run again."""
        holder = watch.holder_of(frame)
        if holder is not None:
            pending.holder, pending.problem = holder, problem
            pending.cause = cause_of(problem.access, frame, holder)
            pending.is_excluded = watch.excludes(frame)
            watch.hold(pending)

    def _allowed(self, frame: FrameType) -> None:
        stack = read_stack(frame)
        if sum(each.f_code is frame.f_code for each, _ in stack.frames) > 1:
            return  # part of a call that was noticed already
        problem = self._problems.of(BLOCKING_ORM, frame)
        if self._is_allowed(problem):
            return
        is_full = self._admit(problem)
        hit = self._hit(problem, frame, None, is_full=is_full)
        context = contextvars.copy_context() if is_full else None
        operation = origin.current.get()

        def report(duration_ms: float) -> None:
            timed = hit.changed(duration_ms=round(duration_ms, 3))
            self._courier.deliver(
                timed, ALLOWED, is_full=is_full, context=context, operation=operation
            )

        self._stopwatch.time_call(frame, report)

    def _loaded(self, frame: FrameType) -> None:
        operation = origin.current.get() or self._operation_of_thread(frame)
        if operation is None:
            return
        problem = self._problems.of(N_PLUS_ONE, frame)
        access = problem.access
        is_counted = access.access in COUNTED and access.operation != "prefetch"
        if not is_counted or self._is_allowed(problem):
            return
        load = operation.loads.setdefault(problem.fingerprint, Load())
        load.count += 1
        if load.count == self._settings.N_PLUS_ONE_THRESHOLD:
            self._courier.start()
            self._loads.add(operation)
            load.context = contextvars.copy_context()
            load.hit = self._hit(problem, frame, None, is_full=True)

    def _operation_of_thread(self, frame: FrameType) -> Operation | None:
        """
        Return the operation of a ``sync_to_async`` call that belongs to no request.

        asgiref carries what is set here back into the task, so its later calls share it; it ends
        with the task.
        """
        for each, known in callsite.outer_frames(frame):
            if known.package == "asgiref" and each.f_code.co_name == "thread_handler":
                operation = Operation(is_task=True)
                weakref.finalize(operation, self._tell_loads, operation.loads)
                origin.current.set(operation)
                return operation
        return None

    def _is_allowed(self, problem: Problem) -> bool:
        patterns = self._settings.ALLOWLIST
        return bool(patterns) and any(
            fnmatch.fnmatchcase(name, pattern) for name in problem.names() for pattern in patterns
        )

    def _admit(self, problem: Problem) -> bool:
        """Tell whether the hit is to be logged in full; then the threads must run."""
        is_full = self._courier.limiter.admit(problem.fingerprint)
        if is_full:
            self._courier.start()
            self._signal.install()  # a server may have put its handlers there since
        return is_full

    def _hit(
        self, problem: Problem, frame: FrameType, exception: str | None, *, is_full: bool
    ) -> Hit:
        """Describe the access; one that is only counted does without its origin and frames."""
        if problem.hit is None:
            problem.hit = self._hit_without_origin(problem, exception)
        if not (is_full or self._courier.wants_all or origin.is_exposed()):
            return problem.hit
        return problem.hit.changed(
            hit_id=new_hit_id(),
            frames=walk(frame),  # the courier makes the event's of them
            process_pid=os.getpid(),
            **_keys_of(read_origin(frame)[0]),
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

    # --- what the retry reports ----------------------------------------------------------------

    def problem_of(self, kind: str, frame: FrameType) -> Problem | None:
        """Return the problem of an access; None: the project allows it."""
        problem = self._problems.of(kind, frame)
        return None if self._is_allowed(problem) else problem

    def describe(self, problem: Problem, frame: FrameType) -> tuple[bool, Hit]:
        """Return whether the hit is to be logged in full, and the hit."""
        is_full = self._admit(problem)
        return is_full, self._hit(problem, frame, None, is_full=is_full)

    def note_breaker(self, event: str, fingerprint: str) -> None:
        """Log that the retries of a fingerprint were stopped, or go on."""
        verb = "stopped" if event.endswith("opened") else "go on"
        keys = {
            "message": f"The retries of {fingerprint} {verb}.",
            "async_guard.version": package_version(),
            "async_guard.fingerprint": fingerprint,
        }
        self._courier.start()
        self._safely(self._courier.note, event, "warning", keys)

    def release(self, pending: PendingHit, outcome: str | None, how: Any = None) -> None:
        """
        Let go of a held hit.

        Args:
            outcome: how it ended; None: as its exception does.
            how: keyword arguments of ``Hit`` about the retry.
        """
        if how and (pending.is_full or self.wants(pending.operation)):
            pending.hit = pending.hit.changed(**how)
        self._safely(self._pending.release, pending, outcome)

    def tell_again(
        self,
        problem: Problem,
        hit: Hit,
        outcome: str,
        times: int,
        how: Any,
        *,
        context: contextvars.Context,
        task: asyncio.Task[Any] | None,
        find_field: Callable[[], FieldOrigin | None],
    ) -> None:
        """
        Pass on *times* hits that are as *hit* was, but in another context, for another field.

        Args:
            how: keyword arguments of ``Hit`` about the retry.
            task: that waited for the answer.
            find_field: returns the GraphQL field, if there is one.
        """
        if not self.installed:
            return

        def tell() -> None:
            is_full, operation = self._admit(problem), context.get(origin.current)
            if not (is_full or self.wants(operation)):
                self._courier.count(problem.hit or hit, outcome, times)
                return
            names = context.copy().run(lambda: origin_of(find_field(), task))
            own = {"hit_id": new_hit_id(), "process_pid": os.getpid(), "exception_type": None}
            again = hit.changed(count=times, **own, **how, **_keys_of(names))
            self._courier.deliver(
                again, outcome, is_full=is_full, context=context, operation=operation
            )

        self._safely(tell)

    def only_counts(self, problem: Problem, operation: Operation | None) -> bool:
        """Tell whether nobody wants to know more of the next hit than that there was one."""
        is_full = self._courier.limiter.would_admit(problem.fingerprint)
        return not (is_full or self.wants(operation))

    def wants(self, operation: Operation | None) -> bool:
        """Tell whether somebody wants the hits of *operation* in full although they are counted."""
        exposed = operation is not None and operation.exposed is not None
        return exposed or self._courier.wants_all

    def count(self, hit: Hit, outcome: str) -> None:
        """Count a hit whose outcome is known."""
        with Deafness():
            self._courier.count(hit, outcome, 1)

    def tell(self, hit: Hit, outcome: str, **how: Any) -> None:
        """Pass on a hit whose outcome is known."""
        self._safely(lambda: self._courier.deliver(hit, outcome, **how))

    # --- from a hit to its end -----------------------------------------------------------------

    def _deliver(self, pending: PendingHit, outcome: str) -> None:
        if not (pending.is_full or pending.is_exposed or self._courier.wants_all):
            self._courier.count(pending.hit, outcome, 1)  # most hits, so the short way
            return
        self._courier.deliver(
            pending.hit,
            outcome,
            is_full=pending.is_full,
            context=pending.context,
            operation=pending.operation,
        )

    def end_operation(self, operation: Operation) -> None:
        """Settle what *operation* hit, now that it is known which errors it answered with."""
        self._safely(self._pending.settle_operation, operation)
        self._safely(self._tell_loads, operation.loads)

    def settle_hidden(self, operation: Operation) -> None:
        """Settle what an extension took out of *operation*'s errors; the others may follow."""
        self._safely(self._pending.settle_operation, operation, False)

    def _request_failed(self, **kwargs: object) -> None:
        """Django is about to answer with an error page: what it shows was raised."""
        operation, error = origin.current.get(), sys.exc_info()[1]
        if operation is not None and error is not None:
            remember(operation.errors, error)

    def _tell_loads(self, loads: dict[str, Load]) -> None:
        tell_loads(loads, self._tell_load)

    def _tell_load(self, hit: Hit, count: int, context: contextvars.Context) -> None:
        is_full = self._courier.limiter.admit(hit.fingerprint)
        self._courier.deliver(
            hit.changed(count=count, hit_id=new_hit_id(), process_pid=os.getpid()),
            ALLOWED,
            is_full=is_full,
            context=context,
            operation=context.get(origin.current),
        )

    def _tick(self) -> None:
        """Done twice a second, in a thread of the courier's, once there were hits."""
        self._pending.settle_all(noticed_before=time.monotonic() - SETTLE_AFTER_S)

    def flush(self, timeout: float = 5.0) -> bool:
        """
        Return when all that was noticed has been written.

        Args:
            timeout: in seconds.

        Returns:
            False if a sink did not finish within the time.
        """
        deadline = time.monotonic() + timeout
        with Deafness():
            self._pending.settle_all()
            self._pending.wait(deadline)
            for operation in list(self._loads):
                self._tell_loads(operation.loads)
        return self._courier.flush(deadline)

    def totals(self) -> dict[str, int]:
        """Return how many hits there were by outcome since the guard was installed."""
        return self._courier.limiter.totals


_RENAMED = {
    "field": "graphql_field",
    "path": "graphql_path",
    "resolver": "graphql_resolver",
    "parent": "graphql_parent",
    "method": "http_method",
    "route": "http_route",
}
_ORIGIN_KEYS = [(each.name, _RENAMED.get(each.name, each.name)) for each in fields(Origin)]


def _keys_of(names: Origin) -> dict[str, Any]:
    """Return keyword arguments of ``Hit``."""
    return {theirs: getattr(names, ours) for ours, theirs in _ORIGIN_KEYS}


guard = Guard()
if sys.platform != "win32":
    os.register_at_fork(
        before=guard.before_fork,
        after_in_parent=guard.after_fork_in_parent,
        after_in_child=guard.after_fork,
    )
atexit.register(guard.uninstall)

install = guard.install
uninstall = guard.uninstall
guarded = guard.guarded
flush = guard.flush
totals = guard.totals


def installed() -> bool:
    """Tell whether the probe is in place."""
    return guard.installed
