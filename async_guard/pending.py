"""
A hit is described where it is noticed, because only there is the stack; how it ends is known
later. Until then it is pending: it is settled when its exception dies, or when the operation,
the request or ``flush()`` asks, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation

from async_guard import origin
from async_guard.hit import Hit
from async_guard.origin import Operation
from async_guard.outcome import RAISED, SWALLOWED, has_surfaced, read_outcome

ONLY_OURS = 2
"""What ``sys.getrefcount`` counts of an exception that only its hit has: that, and the argument."""

Deliver = Callable[["PendingHit", str], None]


class PendingHit:
    """A hit whose end is not known yet."""

    __slots__ = (
        "cause",
        "claims",
        "context",
        "error",
        "escaped",
        "hit",
        "holder",
        "innermost",
        "is_excluded",
        "is_full",
        "key",
        "operation",
        "problem",
        "since",
        "strong",
        "task",
        "verdict",
    )

    def __init__(
        self, hit: Hit, error: BaseException, *, is_full: bool, innermost: CodeType | None
    ) -> None:
        self.innermost = innermost
        self.hit = hit
        self.is_full = is_full
        self.key = id(error)
        self.since = time.monotonic()
        self.operation = origin.current.get()
        answers = self.operation is not None and not self.operation.is_task
        task = None if answers else asyncio.current_task()
        self.task = getattr(task.get_coro(), "cr_code", None) if task is not None else None
        self.escaped = SWALLOWED if answers or _is_gathered(task) else RAISED
        self.context = contextvars.copy_context() if is_full else None
        self.holder: FrameType | None = None
        """The call that answers for it: how it ends is not for the exception to say."""
        self.verdict: str | None = None
        """How the exception of a held hit ended."""
        self.problem: Any = None
        self.cause: str | None = None
        """The relation that was read of the object that a held call is about."""
        self.is_excluded = False
        """The call may not be run again: it was noticed below a function marked ``no_retry``."""
        self.claims = [True]
        """Taken by the thread that delivers it: ``list.pop`` needs no lock."""
        self.strong: BaseException | None = None
        try:
            self.error: Any = weakref.ref(error)
        except TypeError:  # asgiref's RuntimeError: kept until nobody else has it
            self.error = None
            self.strong = error

    @property
    def is_exposed(self) -> bool:
        return self.operation is not None and self.operation.exposed is not None

    def the_error(self) -> BaseException | None:
        return self.strong if self.error is None else self.error()

    def outcome(self, error: BaseException | None) -> str:
        """Return how it ended, as far as it can be known now."""
        if error is None:
            return RAISED
        operation = self.operation
        if (
            operation is not None
            and operation.is_answering()
            and has_surfaced(error.__traceback__, self.innermost)
        ):
            return _dropped(getattr(operation.graphql.result, "errors", None))
        return read_outcome(error, escaped=self.escaped, task=self.task, innermost=self.innermost)


def _is_gathered(task: asyncio.Task[Any] | None) -> bool:
    """Tell whether ``gather(return_exceptions=True)`` waits for *task*: nobody will raise."""
    for callback, _ in getattr(task, "_callbacks", None) or ():
        code = getattr(callback, "__code__", None)
        if code is not None and code.co_qualname == "gather.<locals>._done_callback":
            cell = callback.__closure__[code.co_freevars.index("return_exceptions")]
            return bool(cell.cell_contents)
    return False


class PendingHits:
    """
    All hits whose end is not known yet, by the identity of their exception.

    ``died`` runs in a finaliser, so in the middle of anything: it takes no lock and starts nothing.
    """

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._pending: dict[int, PendingHit] = {}

    def add(self, pending: PendingHit) -> None:
        self._pending[pending.key] = pending
        if pending.operation is not None:
            remember(pending.operation.pending, pending)

    def died(self, error: BaseException) -> None:
        """Settle the hit of *error*, which is about to be freed."""
        pending = self._pending.get(id(error))
        if pending is None:
            return
        outcome = pending.outcome(error)
        if pending.holder is None:
            self._end(pending, outcome)
        else:
            self._pending.pop(pending.key, None)
            pending.verdict = outcome

    def release(self, pending: PendingHit, outcome: str | None) -> None:
        """Nobody holds the hit any more: end it as *outcome*, or as any other."""
        pending.holder = None
        if pending.verdict is not None:
            self._end(pending, outcome or pending.verdict)
        elif outcome is not None:
            self.settle(pending, outcome)

    def settle(self, pending: PendingHit, outcome: str | None = None) -> None:
        """End a hit, as *outcome* or as far as its exception tells now; once."""
        if pending.holder is not None:
            return
        if self._pending.get(pending.key) is pending:  # ids are given again
            error = pending.the_error()
            pending.strong = None
            self._end(pending, outcome or pending.outcome(error))

    def settle_if_at_rest(self, pending: PendingHit) -> None:
        """End a hit whose exception nobody else has: what others have may be on its way still."""
        if sys.getrefcount(pending.strong) <= ONLY_OURS:
            self.settle(pending)

    def _end(self, pending: PendingHit, outcome: str) -> None:
        """Deliver *pending*, unless another thread is at it, and only then forget it."""
        try:
            pending.claims.pop()
        except IndexError:
            return
        try:
            self._deliver(pending, outcome)
        finally:
            if self._pending.get(pending.key) is pending:
                self._pending.pop(pending.key, None)

    def settle_all(self, *, noticed_before: float | None = None) -> None:
        """End all hits, or those noticed before then (``time.monotonic()``)."""
        for pending in list(self._pending.values()):
            if noticed_before is None or pending.since < noticed_before:
                self.settle(pending)

    def wait(self, deadline: float) -> None:
        """Return when no other thread delivers a hit, or at *deadline* (``time.monotonic()``)."""
        while any(not each.claims for each in list(self._pending.values())):
            if time.monotonic() > deadline:
                return
            time.sleep(0.0001)

    def settle_operation(self, operation: Operation, is_final: bool = True) -> None:
        """End the hits of *operation*, now that it is known which errors it answered with."""
        shown = {id(each) for error in operation.errors for each in chain_of(error)}
        pending, operation.pending = operation.pending, []
        for each in pending:
            error = each.the_error()
            if error is not None and id(error) in shown and not is_final:
                operation.pending.append(each)
            elif error is not None:
                self.settle(each, _answered(error, id(error) in shown, operation))

    def forget(self) -> None:
        self._pending.clear()


def _answered(error: BaseException, is_shown: bool, operation: Operation) -> str | None:
    """Return the outcome of what an operation did or did not answer with."""
    if is_shown:
        return RAISED
    if operation.graphql is None or not has_surfaced(error.__traceback__):
        return None
    if operation.is_in_parts():  # what a later part answers with is not seen
        return RAISED
    return _dropped(operation.errors)


def _dropped(answered: Iterable[BaseException] | None) -> str:
    """
    Return the outcome of what reached the executor and is no part of the answer.

    Either an extension masked it, or it went with its parent, which another field's error had made
    null already. Where the answer has another refusal, refusals are not masked.
    """
    shown = (each for error in answered or () for each in chain_of(error))
    is_raised = any(isinstance(each, SynchronousOnlyOperation) for each in shown)
    return RAISED if is_raised else SWALLOWED


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


MOST_REMEMBERED = 1000


def remember(items: list[Any], item: Any) -> None:
    """Append to a list that must not grow for ever in an operation that does not end."""
    if len(items) >= MOST_REMEMBERED:
        del items[: MOST_REMEMBERED // 2]
    items.append(item)
