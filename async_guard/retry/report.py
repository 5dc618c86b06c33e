"""Every retry is a hit: what was accessed, how it was healed, how long that took."""

from __future__ import annotations

import contextvars
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

from async_guard import origin
from async_guard.access import cause_of
from async_guard.callsite import code_of
from async_guard.deaf import Deafness, is_deaf
from async_guard.guard import guard
from async_guard.hit import SYNC_ORM, TRANSACTION_ACROSS_AWAIT, Hit
from async_guard.outcome import RAISED, RETRIED, RETRY_FAILED, RETRY_REFUSED
from async_guard.problem import Problem
from async_guard.retry.call import Call
from async_guard.retry.flow import Flow
from async_guard.retry.policy import Policy, is_failure
from async_guard.retry.rerun import Rerunner
from async_guard.retry.statements import counted
from async_guard.retry.watch import watch

RESUME = "resume"
REFUSED = object()


@dataclass(slots=True)
class Notice:
    """An access that is being carried out in the worker."""

    reporter: Reporter
    problem: Problem
    hit: Hit
    is_full: bool
    context: contextvars.Context | None
    """None: it is only counted."""
    operation: Any
    since: float
    queries: int = 0

    def begin(self, call: Call, connection: Any) -> None:
        """Count the statements of *call*, where they are told."""
        if self.context is not None:
            call.function = partial(self._counted, call.function, connection)

    def end(self, call: Call) -> None:
        """Tell how *call* ended."""
        self.reporter.ended(self, call)

    def _counted(self, function: Callable[..., Any], connection: Any, *args: Any) -> Any:
        with counted(connection, self._count):
            return function(*args)

    def _count(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.queries += 1
        return execute(*args)


class Untold:
    """Stands for an access that the project allows."""

    def begin(self, call: Call, connection: Any) -> None: ...

    def end(self, call: Call) -> None: ...


UNTOLD = Untold()


class Reporter:
    """Notices the accesses of driven coroutines, and decides which are carried out."""

    def __init__(self, policy: Policy, rerunner: Rerunner, most: int) -> None:
        self._policy = policy
        self._rerunner = rerunner
        self._waiting: dict[int, Notice] = {}
        """What is being carried out, by identity: no number, because loops run in many threads."""
        self._without_plan: weakref.WeakSet[Problem] = weakref.WeakSet()
        self._most = most

    def noticed(self, frame: FrameType, flow: Flow, connection: Any) -> Any:
        """
        Describe an access.

        Returns:
            What is told of the call when it begins and ends. ``REFUSED``: it is not carried out,
            and that is told. None: it is not carried out, and nothing is told yet. An error of
            ours is no reason not to.
        """
        if not guard.installed:
            return None
        if is_deaf():
            return UNTOLD
        try:
            with Deafness():
                return self._noticed(frame, flow, connection)
        except Exception:
            guard.fail()
            return UNTOLD

    def _noticed(self, frame: FrameType, flow: Flow, connection: Any) -> Any:
        problem = guard.problem_of(SYNC_ORM, frame)
        if problem is None:
            return UNTOLD
        if not self._policy.permits(problem, frame):
            return None
        if not flow.may_use(connection):
            self.tell(guard.problem_of(TRANSACTION_ACROSS_AWAIT, frame), frame, RETRY_REFUSED)
            return REFUSED
        if len(self._waiting) >= self._most or not self._policy.admits(problem):
            self.tell(problem, frame, RETRY_REFUSED)
            return REFUSED
        is_full, hit = guard.describe(problem, frame)
        if problem not in self._without_plan:
            self._learn(problem, hit, frame)
        operation = origin.current.get()
        is_told = is_full or guard.wants(operation)
        context = contextvars.copy_context() if is_told else None
        notice = Notice(self, problem, hit, is_full, context, operation, time.perf_counter())
        self._waiting[id(notice)] = notice
        return notice

    def _learn(self, problem: Problem, hit: Hit, frame: FrameType) -> None:
        """Send the field's next calls to the worker at once, where they share hops and queries."""
        holder = watch.holder_of(frame)
        if holder is None:
            self._without_plan.add(problem)  # to look for one takes time
        plan = holder.f_locals.get("plan") if holder is not None else None
        if holder is not None and plan is not None and plan.route is None:
            self._rerunner.learn(plan, problem, hit, cause_of(problem.access, frame, holder))

    def ended(self, notice: Notice, call: Call) -> None:
        """Tell of an access that was carried out, or failed where the database did."""
        self._waiting.pop(id(notice), None)
        took = time.perf_counter() - notice.since
        failed = is_failure(call.error)
        if call.state == Call.DONE:  # not given up
            self._policy.ended(notice.problem, took, failed=failed)
        hit, outcome = notice.hit, RETRY_FAILED if failed else RETRIED
        if call.state == Call.GIVEN_UP:  # the task was cancelled before the worker began
            outcome = RAISED
        if notice.context is None:
            guard.count(hit, outcome)  # most hits, so the short way
            return
        guard.tell(
            replace(
                hit,
                retry_strategy=RESUME,
                retry_duration_ms=round(took * 1000, 3),
                retry_hop_size=1,
                retry_batched=False,
                retry_queries=notice.queries,
            ),
            outcome,
            is_full=notice.is_full,
            context=notice.context,
            operation=notice.operation,
        )

    def tell(self, problem: Problem | None, frame: FrameType, outcome: str) -> None:
        """Tell of something that is not carried out."""
        if problem is None:
            return
        is_full, hit = guard.describe(problem, frame)
        context = contextvars.copy_context() if is_full else None
        guard.tell(hit, outcome, is_full=is_full, context=context, operation=origin.current.get())

    def awaited(self, drive: Any) -> None:
        """Tell, once for each block, that a coroutine waits while it is in a transaction."""
        atomic = drive.held[-1].atomic
        if drive.told is atomic or not guard.installed or is_deaf():
            return
        drive.told = atomic
        frame = waiting_frame(drive.cr_frame, drive)
        if frame is None:
            return
        with Deafness():
            self.tell(guard.problem_of(TRANSACTION_ACROSS_AWAIT, frame), frame, "allowed")


def waiting_frame(frame: FrameType | None, coro: Any) -> FrameType | None:
    """Return the innermost frame of the project's that awaits, from the outermost coroutine in."""
    found = None
    while coro is not None:
        inner = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
        if inner is not None and code_of(inner.f_code).is_project:
            found = inner
        coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
    return found
