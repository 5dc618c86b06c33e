"""Puts the parts of the retry together, for as long as it is on."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

from async_guard import origin
from async_guard.guard import guard
from async_guard.probe import patched
from async_guard.retry import flow, routes
from async_guard.retry.hops import Job
from async_guard.retry.policy import Policy
from async_guard.retry.report import Reporter
from async_guard.retry.rerun import Plan, Rerunner
from async_guard.retry.watch import watch
from async_guard.settings import get_settings


class Machine:
    """The retry of a process. *with_resume*: also that of asynchronous code."""

    def __init__(self, *, with_resume: bool) -> None:
        settings = get_settings()
        self.policy = Policy(settings)
        self.policy.breakers.on_change = guard.note_breaker
        self.rerunner = Rerunner(self.policy, settings)
        self.drive: Any = None
        self.drive_stream: Any = None
        self.fields: Any = None
        self._reporter = Reporter(self.policy, self.rerunner, settings.RETRY_QUEUE_SIZE)
        self._databases: Any = None
        self._tasks: Any = None
        self._resume: Any = None
        self._strawberry = ExitStack()
        if with_resume:
            from async_guard.retry import databases, resume, tasks

            self._databases = databases.Databases(self._reporter)
            self.drive = resume.driven
            self.drive_stream = resume.DrivenGenerator
            self._tasks = tasks
            self._resume = resume

    def install(self) -> None:
        watch.codes.add(Rerunner.attempt.__code__)
        if self._databases is not None:
            self._databases.install()
            self._strawberry = _patched_strawberry()
            flow.on_enter, flow.on_exit = self._tasks.watch, self._resume.flow_closed
            origin.frame_beyond = self._resume.frame_beyond
            self._resume.watch_collector()
            flow.on_await = self._reporter.awaited

    def uninstall(self) -> None:
        if self.fields is not None:
            self.fields.unwrap()
        watch.codes.clear()
        routes.known.clear()
        if self._databases is not None:
            self._strawberry.close()
            self._databases.uninstall()
            self._tasks.restore()
            self._resume.unwatch_collector()
            flow.on_enter = flow.on_exit = flow.on_await = flow.nothing
            origin.frame_beyond = origin.no_frame

    @staticmethod
    def plan_of(function: Any) -> Plan:
        """Return how a function outside GraphQL may be run again."""
        named = function
        while isinstance(named, functools.partial):
            named = named.func
        if not hasattr(named, "__qualname__"):  # an object that can be called
            named = type(named)
        return Plan(f"{named.__module__}.{named.__qualname__}", function)

    @staticmethod
    def is_retried(result: Any) -> bool:
        return isinstance(result, Job)

    def wrap(self, schema: Any) -> None:
        """Have the resolvers of a GraphQL schema run again where they may."""
        if self.fields is None:
            from async_guard.integrations.graphql_retry import Fields

            self.fields = Fields(self.rerunner)
        self.fields.wrap(schema)


def _patched_strawberry() -> ExitStack:
    with ExitStack() as stack:
        if find_spec("strawberry") is not None:
            from async_guard.integrations.strawberry_retry import seams

            for seam in seams():
                stack.enter_context(patched(seam))
        return stack.pop_all()
