"""
Runs a synchronous call again, in the worker thread, where Django refused the first run.

For calls that may run twice. What the first run raised or returned is not the answer then; what
the second gives is, also where it is an exception such as a permission that was denied.
"""

from __future__ import annotations

import sys
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import QuerySet
from django.db.models.manager import BaseManager
from django.utils.functional import LazyObject

from async_guard.guard import guard
from async_guard.hit import Hit
from async_guard.origin import FieldOrigin, Operation, current
from async_guard.outcome import HANDLED, RAISED, RETRIED, RETRY_FAILED, RETRY_REFUSED
from async_guard.pending import PendingHit
from async_guard.problem import Problem
from async_guard.retry.ahead import Ahead
from async_guard.retry.hops import Hop, Hops, Job
from async_guard.retry.policy import Policy, is_failure
from async_guard.retry.routes import Route, known
from async_guard.retry.watch import watch
from async_guard.settings import Settings

NOT_RETRIED = object()
_NO_LOOP = ("no running event loop", "There is no current event loop in thread")


class Places:
    """Tells where a function was called from, by the arguments of the call: outside GraphQL not."""

    @staticmethod
    def path(args: Any, kwargs: Any) -> str | None:
        """Return the response path, list indexes folded."""
        return None

    @staticmethod
    def field(args: Any, kwargs: Any) -> FieldOrigin | None:
        """Return the GraphQL field."""
        return None


def _always(frame: FrameType | None) -> bool:
    return True


class Plan:
    """One function that may be run again, such as a field's resolver."""

    __slots__ = (
        "hands_on",
        "is_list",
        "is_object",
        "name",
        "needs_loop",
        "places",
        "resolve",
        "route",
    )

    def __init__(
        self,
        name: str,
        resolve: Callable[..., Any],
        *,
        is_list: bool = False,
        is_object: bool = False,
        places: type[Places] = Places,
    ) -> None:
        self.name = name
        """``Type.field``, or what the function is called."""
        self.resolve = resolve
        self.is_object = is_object
        """It may return a ``LazyObject``, such as ``request.user``, that is asked for its class."""
        self.is_list = is_list
        """What it returns is iterated later, so it is evaluated in the worker."""
        self.places = places
        self.hands_on: Callable[[FrameType | None], bool] = _always
        """Tell whether the frame that called takes something to await instead of the value."""
        self.route: Route | None = None
        self.needs_loop = False
        """It asks for the event loop as well, as a ``DataLoader`` does: the worker has none."""


@dataclass(slots=True)
class InLoop:
    """A call that is made when it is awaited."""

    plan: Plan
    args: Any
    kwargs: Any

    def __await__(self) -> Generator[Any, Any, Any]:
        result = self.plan.resolve(*self.args, **self.kwargs)
        return (yield from result.__await__()) if hasattr(result, "__await__") else result


@dataclass(slots=True)
class Attempt:
    """The first run of a call, in the loop."""

    hits: list[PendingHit]
    result: Any = None
    """What it returned; with an *error* what could not be evaluated."""
    error: BaseException | None = None


class Rerunner:
    """The reruns of a process."""

    def __init__(self, policy: Policy, settings: Settings) -> None:
        self._policy = policy
        self._lasts_s = settings.RETRY_ROUTE_S
        known.most = settings.MAX_FINGERPRINTS
        self._hops = Hops(
            size=settings.RETRY_HOP_SIZE,
            most=settings.RETRY_QUEUE_SIZE,
            batching=settings.RETRY_BATCHING,
        )
        self._hops.on_end = self._tell_routed
        self.ahead = Ahead(policy, self._hops, self._is_open) if settings.RETRY_BATCHING else None

    def attempt(self, plan: Plan, args: Any, kwargs: Any) -> Any:
        """Run *plan* in the loop; return its result, or a ``Job`` where that is to be awaited."""
        source = args[0] if args else None  # noqa: F841 - read from this frame, see cause_of()
        if plan.route is not None:
            answer = self.routed(plan, plan.route, args, kwargs)
            if answer is not NOT_RETRIED:
                return answer
        before, result = watch.count, None
        try:
            result = plan.resolve(*args, **kwargs)
            if _is_lazy(plan, result):
                result = evaluated(result)
        except Exception as error:
            if watch.count == before:
                raise
            return self.settled(plan, sys._getframe(), args, kwargs, result, error)
        if watch.count == before:
            return result
        return self.settled(plan, sys._getframe(), args, kwargs, result, None)

    # --- after a run in the loop -----------------------------------------------------------------

    def settled(
        self,
        plan: Plan,
        frame: FrameType,
        args: Any,
        kwargs: Any,
        result: Any,
        error: BaseException | None,
    ) -> Any:
        """
        Decide what becomes of a call in which there were hits.

        Returns:
            What is to be awaited, or *result* where it is not run again.

        Raises:
            BaseException: *error*, where it is not run again. *result* was being evaluated then.
        """
        attempt = Attempt(watch.claim(frame), result, error)
        if self._is_wanted(plan, attempt, frame.f_back):
            first = attempt.hits[0]
            if plan.route is not None and args and plan.route.is_loaded(args[0]):
                plan.route.suffices = False
            self.learn(plan, first.problem, first.hit, first.cause)
            return self._hops.submit(self._job(plan, args, kwargs, attempt, first.cause))
        if error is not None:
            raise error
        return result

    def _is_wanted(self, plan: Plan, attempt: Attempt, caller: FrameType | None) -> bool:
        hits = attempt.hits
        permitted = (
            bool(hits)
            and plan.hands_on(caller)
            and not all(each.verdict == HANDLED for each in hits)
            and not any(each.is_excluded for each in hits)
            and all(self._policy.permits(each.problem, None, plan.name) for each in hits)
        )
        wanted = (
            permitted
            and self._hops.has_room()
            and all(self._policy.admits(each) for each in _problems(hits))
        )
        if not wanted:
            for each in hits:
                guard.release(each, RETRY_REFUSED if permitted else None)
        return wanted

    # --- a call that is known to need the worker -------------------------------------------------

    def routed(self, plan: Plan, route: Route, args: Any, kwargs: Any) -> Any:
        """Return what is to be awaited instead of a run in the loop; or ``NOT_RETRIED``."""
        if args and route.is_loaded(args[0]):
            return NOT_RETRIED
        if not (plan.hands_on(sys._getframe(1).f_back) and self._is_open(route)):
            return NOT_RETRIED
        route.uses += 1
        call = run_again, plan, args, kwargs
        return self._hops.submit(Job(call, self._ended, relation=route.relation, route=route))

    def _is_open(self, route: Route) -> bool:
        if _get_running_loop() is None:  # the same schema, executed in a thread
            return False
        if route.is_over():
            known.forget(route)
            return False
        return (
            self._policy.permits(route.problem, None, route.name)
            and self._hops.has_room()
            and self._policy.admits(route.problem)
        )

    def learn(self, plan: Plan, problem: Problem, hit: Hit, cause: str | None) -> None:
        """Send the plan's next calls to the worker at once."""
        if plan.route is None and self._lasts_s and not plan.needs_loop:
            known.learn(Route(plan, problem, hit, cause, self._lasts_s))

    def _job(self, plan: Plan, args: Any, kwargs: Any, attempt: Attempt, cause: str | None) -> Job:
        spent = attempt.result if issubclass(type(attempt.result), Iterator) else None
        run = partial(run_again, spent=spent)
        return Job((run, plan, args, kwargs), self._ended, relation=cause, first=attempt)

    # --- after the run in the worker -------------------------------------------------------------

    def _ended(self, job: Job, hop: Hop) -> None:
        if job.future.done():
            self._given_up(job, hop)
            return
        error, attempt = job.error, job.first
        failed = _failed(error)
        if failed and attempt is None:
            attempt = job.in_context(self._first_run, *job.call[1:])
        if attempt is not None and attempt.hits:
            self._tell(attempt, job, hop, failed=failed)
        else:
            _keep(job, hop, failed=failed)
        if failed:
            _answer_as_before(job.future, attempt, error)
        elif _lacks_loop(error):
            self._keep_in_loop(job)
        elif error is not None:
            _fail(job.future, error)
        else:
            job.future.set_result(job.result)

    @staticmethod
    def _keep_in_loop(job: Job) -> None:
        """Have it run once more where it is awaited, with what the worker has loaded."""
        plan = job.call[1]
        plan.needs_loop = True
        if plan.route is not None:
            known.forget(plan.route)
        job.future.set_result(InLoop(*job.call[1:]))

    def _given_up(self, job: Job, hop: Hop) -> None:
        """Nobody waits for the answer any more: tell how the hits of the first run ended."""
        first, took = job.first, time.perf_counter() - job.since
        if first is None and job.is_done:
            _keep(job, hop, failed=_failed(job.error))
        for each in first.hits if first is not None else ():
            if job.is_done and job.error is None:
                guard.release(each, RETRIED, hop.how(job, took))
            else:  # the resolver let it out, or has eaten it
                guard.release(each, RAISED if first.error is not None else None)

    def _first_run(self, plan: Plan, args: Any, kwargs: Any) -> Attempt:
        """Run in the loop what a route had kept from it: its answer is the original one."""
        watch.codes.add(_in_loop.__code__)
        return _in_loop(plan, args, kwargs)

    def _tell(self, attempt: Attempt, job: Job, hop: Hop, *, failed: bool) -> None:
        took = time.perf_counter() - job.since
        for problem in _problems(attempt.hits):
            self._policy.ended(problem, took, failed=failed)
        for each in attempt.hits:
            guard.release(each, RETRY_FAILED if failed else RETRIED, hop.how(job, took))

    def _tell_routed(self, hop: Hop) -> None:
        """Tell once of all the jobs that took one route in one hop, from one place each."""
        for (route, failed, _, operation), jobs in hop.routed.items():
            took = time.perf_counter() - jobs[0].since
            self._policy.ended(route.problem, took, failed=failed)
            outcome = RETRY_FAILED if failed else RETRIED
            is_counted = guard.only_counts(route.problem, operation)
            for group in [jobs] if is_counted else _by_place(jobs, operation):
                plan, args, kwargs = group[0].call[1:]
                guard.tell_again(
                    route.problem,
                    route.hit,
                    outcome,
                    len(group),
                    hop.how(group[0], took),
                    context=group[0].context,
                    task=group[0].task,
                    find_field=partial(plan.places.field, args, kwargs),
                )


def _problems(hits: Iterable[PendingHit]) -> Iterable[Problem]:
    """Return what they are hits of, once for each fingerprint: together they are one retry."""
    return {each.problem.fingerprint: each.problem for each in hits}.values()


def _keep(job: Job, hop: Hop, *, failed: bool) -> None:
    """Have what a route sent to the worker told when the hop is over."""
    if job.route is not None:
        key = job.route, failed, job.batched, job.context.get(current)
        hop.routed.setdefault(key, []).append(job)


def _by_place(jobs: list[Job], operation: Operation | None) -> Iterable[list[Job]]:
    """Part the jobs by response path; a task of its own is a place."""
    is_task = operation is None or operation.is_task
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        plan, args, kwargs = job.call[1:]
        place = job.task if is_task else plan.places.path(args, kwargs)
        groups.setdefault(place, []).append(job)
    return groups.values()


def _failed(error: BaseException | None) -> bool:
    return isinstance(error, SynchronousOnlyOperation) or is_failure(error)


def _lacks_loop(error: BaseException | None) -> bool:
    """Tell what asyncio raises in a thread without a loop; only its text tells it from others."""
    return isinstance(error, RuntimeError) and str(error).startswith(_NO_LOOP)


def _in_loop(plan: Plan, args: Any, kwargs: Any) -> Attempt:
    frame = sys._getframe()
    try:
        result = plan.resolve(*args, **kwargs)
    except Exception as error:
        return Attempt(watch.claim(frame), None, error)
    return Attempt(watch.claim(frame), result)


def _answer_as_before(future: Any, attempt: Attempt, error: BaseException | None) -> None:
    """Give the answer that there would be without a retry; the retry's error is attached."""
    if attempt.error is None:
        future.set_result(attempt.result)
        return
    attempt.error.__context__ = error
    _fail(future, attempt.error)


def _fail(future: Any, error: BaseException) -> None:
    if isinstance(error, StopIteration):  # a Future takes none
        error = RuntimeError("a resolver raised StopIteration")
    future.set_exception(error)


def run_again(plan: Plan, args: Any, kwargs: Any, *, spent: Any = None) -> Any:
    """
    Carry out the call in the worker, with all that it would do later.

    Args:
        spent: an iterator that the first run was refused in the middle of.

    Raises:
        SynchronousOnlyOperation: if it gives *spent* again, of which nothing is left.
    """
    result = plan.resolve(*args, **kwargs)
    if spent is not None and result is spent:
        raise SynchronousOnlyOperation("The rows can be read only once.")
    return evaluated(result) if _is_lazy(plan, result) else result


def _is_lazy(plan: Plan, result: Any) -> bool:
    """Tell whether it is still to be fetched; rows, as an object of their own, stay as they are."""
    if plan.is_list:
        return type(result) is not list
    return plan.is_object and isinstance(result, LazyObject)


def evaluated(result: Any) -> Any:
    """Fetch what *result* would fetch when it is iterated, or asked what it is."""
    if isinstance(result, LazyObject):
        _ = result.__class__
        return result
    if isinstance(result, BaseManager):
        result = result.all()
    if isinstance(result, QuerySet):
        result._fetch_all()
        return result
    if isinstance(result, str | list | tuple):
        return result
    return list(result) if isinstance(result, Iterator | Sequence) else result  # a paginator's page
