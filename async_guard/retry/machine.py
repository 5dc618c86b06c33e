"""Puts the parts of the retry together, for as long as it is on."""

from __future__ import annotations

from typing import Any

from async_guard.retry import flow
from async_guard.retry.policy import Policy
from async_guard.retry.report import Reporter
from async_guard.settings import get_settings


class Machine:
    """The retry of a process. *with_resume*: also that of asynchronous code."""

    def __init__(self, *, with_resume: bool) -> None:
        self.policy = Policy(get_settings())
        self._reporter = Reporter(self.policy)
        self._databases: Any = None
        self.drive: Any = None
        self._tasks: Any = None
        if with_resume:
            from async_guard.retry import databases, resume, tasks

            self._databases = databases.Databases(self._reporter)
            self.drive = resume.driven
            self._tasks = tasks

    def install(self) -> None:
        if self._databases is not None:
            self._databases.install()
            flow.on_enter = self._tasks.watch
            flow.on_await = self._reporter.awaited

    def uninstall(self) -> None:
        if self._databases is not None:
            self._databases.uninstall()
            self._tasks.restore()
            flow.on_enter, flow.on_await = flow.nothing, flow.nothing
