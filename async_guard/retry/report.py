"""Every retry is a hit: what was accessed, how it was healed, how long that took."""

from __future__ import annotations

import contextvars
import time
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from async_guard import origin
from async_guard.deaf import Deafness, is_deaf
from async_guard.guard import guard
from async_guard.hit import SYNC_ORM, TRANSACTION_ACROSS_AWAIT, Hit
from async_guard.outcome import RETRIED, RETRY_FAILED, RETRY_REFUSED
from async_guard.problem import Problem
from async_guard.retry.call import Call
from async_guard.retry.flow import Flow
from async_guard.retry.policy import Policy, is_failure

RESUME = "resume"


@dataclass(slots=True)
class Notice:
    """An access that is being carried out in the worker."""

    reporter: Reporter
    problem: Problem
    hit: Hit | None
    is_full: bool
    context: contextvars.Context | None
    operation: Any
    since: float

    def __call__(self, call: Call) -> None:
        """Tell how *call* ended."""
        self.reporter.ended(self, call)


def _untold(call: Call) -> None:
    """Of an access that the project allows."""


class Reporter:
    """Notices the accesses of driven coroutines, and decides which are carried out."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def noticed(self, frame: FrameType, flow: Flow, connection: Any) -> Any:
        """
        Describe an access.

        Returns:
            What to call with the ``Call`` when it ended; None: it is not to be carried out.
        """
        if not guard.installed:
            return None
        if is_deaf():
            return _untold
        with Deafness():
            return self._noticed(frame, flow, connection)

    def _noticed(self, frame: FrameType, flow: Flow, connection: Any) -> Any:
        problem = guard.problem_of(SYNC_ORM, frame)
        if problem is None:
            return _untold
        if not flow.may_use(connection):
            self.tell(guard.problem_of(TRANSACTION_ACROSS_AWAIT, frame), frame, RETRY_REFUSED)
            return None
        if not self._policy.allows(problem, frame):
            return None
        is_full, hit = guard.describe(problem, frame)
        context = contextvars.copy_context() if is_full else None
        return Notice(
            self, problem, hit, is_full, context, origin.current.get(), time.perf_counter()
        )

    def ended(self, notice: Notice, call: Call) -> None:
        """Tell of an access that was carried out, or failed where the database did."""
        took = time.perf_counter() - notice.since
        failed = is_failure(call.error)
        self._policy.ended(notice.problem, took, failed=failed)
        hit = notice.hit
        assert hit is not None
        if notice.is_full or notice.context is not None:
            hit = replace(
                hit,
                retry_strategy=RESUME,
                retry_duration_ms=round(took * 1000, 3),
                retry_hop_size=1,
                retry_batched=False,
                retry_queries=1,
            )
        guard.tell(
            hit,
            RETRY_FAILED if failed else RETRIED,
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
        atomic, _ = drive.held[-1]
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
    from async_guard.callsite import code_of

    found = None
    while coro is not None:
        inner = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
        if inner is not None and code_of(inner.f_code).is_project:
            found = inner
        coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
    return found
