"""
Loads a relation for the rows of a list before their resolvers ask for it.

A route tells that a field of the rows needs a relation. So the list is held back until one query
has loaded it for all of them, as ``prefetch_related`` would have; their resolvers then run in the
loop, and nothing has to be awaited for each row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.db.models import Model, QuerySet

from async_guard.guard import guard
from async_guard.origin import FieldOrigin
from async_guard.outcome import RETRIED
from async_guard.retry.batching import LEAST, load_relation
from async_guard.retry.hops import Hop, Hops, Job
from async_guard.retry.policy import Policy
from async_guard.retry.routes import Route

FindField = Callable[[Route], FieldOrigin | None]


class Ahead:
    """What is loaded for whole lists."""

    def __init__(self, policy: Policy, hops: Hops, is_open: Callable[[Route], bool]) -> None:
        self._policy = policy
        self._hops = hops
        self._is_open = is_open

    def load(self, routes: Iterable[Route], result: Any, find_field: FindField) -> Any:
        """
        Load what *routes* are for, for all rows of *result*: a list, or what is awaited for one.

        Args:
            find_field: tells the GraphQL field that a route is for.

        Returns:
            *result*, or what is to be awaited for it.
        """
        if hasattr(result, "__await__"):
            return self._loaded(routes, result, find_field)
        jobs = self._jobs(routes, result, find_field)
        return _after(jobs, result) if jobs else result

    async def _loaded(self, routes: Iterable[Route], result: Any, find_field: FindField) -> Any:
        rows = await result
        return await _after(self._jobs(routes, rows, find_field), rows)

    def _jobs(self, routes: Iterable[Route], result: Any, find_field: FindField) -> list[Job]:
        rows = result._result_cache if isinstance(result, QuerySet) else result
        if not isinstance(rows, list | tuple):
            return []
        jobs = (self._job(route, rows, find_field) for route in routes)
        return [job for job in jobs if job is not None]

    def _job(self, route: Route, rows: Iterable[Any], find_field: FindField) -> Job | None:
        lacking = [row for row in rows if isinstance(row, Model) and not route.is_loaded(row)]
        if len(lacking) < LEAST or not self._is_open(route):
            return None
        call = load_relation, lacking, route.relation
        ended = partial(self._ended, find_field)
        return self._hops.submit(Job(call, ended, route=route))

    def _ended(self, find_field: FindField, job: Job, hop: Hop) -> None:
        """Each row that has its relation now is a call that was spared its refusal."""
        times, route = len(job.result or ()), job.route
        if times:
            took = time.perf_counter() - job.since
            route.uses += times
            self._policy.ended(route.problem, took, failed=False)
            how = hop.how(job, took) | {"retry_hop_size": times, "retry_batched": True}
            guard.tell_again(
                route.problem,
                route.hit,
                RETRIED,
                times,
                how,
                context=job.context,
                task=job.task,
                find_field=partial(find_field, route),
            )
        elif job.is_done:
            route.together = False  # or each list would wait in vain
        if not job.future.done():
            job.future.set_result(None)


async def _after(jobs: Iterable[Job], result: Any) -> Any:
    for job in jobs:
        await job
    return result
