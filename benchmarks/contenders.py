"""
Who is measured: the bare program, async_guard, and tools that answer a similar question.

Every tool is set so that it watches and reports nothing: a threshold out of reach where it has one.
What a report costs is another question, and ``hits.py`` asks it for async_guard.

Tools are imported when their turn comes. The parent process never loads them, and one that is not
installed is left out of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.schemas import Extensions
    from benchmarks.workloads import Workload

OUT_OF_REACH_MS = 3_600_000


def _no_extensions() -> Extensions:
    return ()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run the program. The bare one is the contender that does nothing."""

    name: str
    what: str
    package: str | None = None
    """What must be installed."""
    apps: tuple[str, ...] = ()
    """Django apps that must be installed."""
    extensions: Callable[[], Extensions] = _no_extensions
    """What the schema is built with."""
    active: Callable[[], AbstractContextManager[object]] = nullcontext
    """Switched on for the length of this block, which is entered inside the running loop."""
    only_graphql: bool = False
    """Does nothing outside GraphQL, so is not measured there."""
    is_permanent: bool = False
    """Cannot be switched off again, so it gets a process of its own."""

    @property
    def is_installed(self) -> bool:
        try:
            return self.package is None or find_spec(self.package) is not None
        except ModuleNotFoundError:  # of the parent of a dotted name
            return False

    def runs(self, workload: Workload) -> bool:
        return workload.is_graphql or not self.only_graphql


@contextmanager
def _async_guard_installed() -> Iterator[None]:
    import async_guard

    async_guard.install()
    try:
        yield
        if found := async_guard.totals():
            raise RuntimeError(f"A workload must not hit, and this one did: {found}")
    finally:
        async_guard.uninstall()


def _async_guard_extensions() -> Extensions:
    from async_guard.integrations.strawberry import AsyncGuardExtension

    return [AsyncGuardExtension]


def _noop_extensions() -> Extensions:
    from benchmarks.noop import NoopExtension

    return [NoopExtension]


def _opentelemetry_extensions() -> Extensions:
    from opentelemetry.sdk.trace import TracerProvider
    from strawberry.extensions.tracing import OpenTelemetryExtension

    provider = TracerProvider()  # spans are recorded and go nowhere: no exporter
    return [lambda: OpenTelemetryExtension(tracer_provider=provider)]


@contextmanager
def _blockbuster_active() -> Iterator[None]:
    from blockbuster import blockbuster_ctx

    with blockbuster_ctx():
        yield


@cache
def _patch_for_aiocop() -> None:
    import aiocop  # type: ignore[import-untyped]

    aiocop.patch_audit_functions()
    aiocop.start_blocking_io_detection()
    aiocop.detect_slow_tasks(threshold_ms=OUT_OF_REACH_MS)


@contextmanager
def _aiocop_active() -> Iterator[None]:
    import aiocop

    _patch_for_aiocop()
    aiocop.activate()
    try:
        yield
    finally:
        aiocop.deactivate()


@contextmanager
def _zeal_active() -> Iterator[None]:
    import zeal  # type: ignore[import-untyped]

    with zeal.zeal_context():
        yield


BARE = Contender(name="bare", what="the program itself")

CONTENDERS = (
    BARE,
    Contender(name="bare_again", what="the program itself once more: the noise of this run"),
    Contender(
        name="async_guard",
        what="the app installed, AsyncGuardExtension in the schema",
        package="async_guard",
        apps=("async_guard",),
        extensions=_async_guard_extensions,
        active=_async_guard_installed,
    ),
    Contender(
        name="noop_resolve",
        what="an extension whose resolve() calls the next one and nothing else",
        extensions=_noop_extensions,
        only_graphql=True,
    ),
    Contender(
        name="opentelemetry",
        what="Strawberry's OpenTelemetryExtension, SDK tracer, no exporter",
        package="opentelemetry.sdk",
        extensions=_opentelemetry_extensions,
        only_graphql=True,
    ),
    Contender(
        name="blockbuster",
        what="blockbuster_ctx() around the run",
        package="blockbuster",
        active=_blockbuster_active,
    ),
    Contender(
        name="aiocop",
        what="blocking-I/O and slow-task detection active",
        package="aiocop",
        active=_aiocop_active,
        is_permanent=True,
    ),
    Contender(
        name="zeal",
        what="django-zeal's app installed, zeal_context() around the run",
        package="zeal",
        apps=("zeal",),
        active=_zeal_active,
        is_permanent=True,
    ),
)

BY_NAME = {contender.name: contender for contender in CONTENDERS}
