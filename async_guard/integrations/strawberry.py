"""
The Strawberry extension: which GraphQL operation runs, and how its hits ended.

It has no ``resolve`` method, so no field pays for it, and it wraps no resolver: which field hit is
read from the executor's frames, how it ended from the exception (see ``docs/design.md``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

try:
    from strawberry import Schema
    from strawberry.extensions import SchemaExtension
except ImportError as error:  # pragma: no cover - needs an environment without Strawberry
    raise ImportError(
        "AsyncGuardExtension needs Strawberry: pip install 'async-guard[strawberry]'"
    ) from error

from django.conf import settings as django_settings

from async_guard import origin
from async_guard.courier import told
from async_guard.guard import guard
from async_guard.origin import Operation
from async_guard.retry.modes import switch
from async_guard.settings import FORCE, get_settings

origin.learn_libraries()
_RUNS_HOOKS = {"contextlib", "strawberry.extensions.context"}

# The extension may be one instance for all requests, so nothing is kept on it
_ended: ContextVar[Operation | None] = ContextVar("async_guard_ended", default=None)


class AsyncGuardExtension(SchemaExtension):
    """Add it to ``strawberry.Schema(extensions=[…])``."""

    def on_operation(self) -> Iterator[None]:
        if not guard.installed:
            yield
            return
        outer = origin.current.get()
        execution = self.execution_context
        operation = Operation(outer.request if outer else None, graphql=execution, outer=outer)
        if is_exposed():
            operation.exposed = []
        if switch.machine is not None:
            switch.machine.wrap(execution.schema._schema)
            operation.is_synchronous = _is_synchronous(sys._getframe(1))
        origin.current.set(operation)
        collected = False
        try:
            yield
        except GeneratorExit:
            collected = is_collected(sys._getframe(1))
            raise
        finally:
            if not collected:
                _close(operation)

    def on_stream_result(self, result: Any) -> Iterator[None]:
        operation = origin.current.get()
        if operation is None or operation.graphql is None:
            yield
            return
        in_parts = operation.is_in_parts()
        if operation.pending and not in_parts:
            operation.errors = list(getattr(result, "errors", None) or ())
            guard.settle_hidden(operation)
        operation.is_handing_out = not in_parts
        origin.current.set(operation.outer)  # who reads the stream is not part of the operation
        collected = False
        try:
            yield
        except GeneratorExit:
            collected = is_collected(sys._getframe(1))
            raise
        finally:
            operation.is_handing_out = False
            if not collected:
                origin.current.set(operation)
            if (
                operation.pending and not in_parts and not collected
            ):  # every extension is done with the result
                operation.errors = list(getattr(result, "errors", None) or ())
                guard.end_operation(operation)

    def get_results(self) -> dict[str, Any]:
        """Called when every extension is done with the result."""
        operation = self._not_begun() or _ended.get()
        if operation is None or operation.is_over:
            return {}
        _ended.set(None)
        _settle(operation)
        if not operation.exposed:
            return {}
        return {"asyncGuard": {"hits": [told(hit).to_dict() for hit in operation.exposed]}}

    def _not_begun(self) -> Operation | None:
        """Another extension failed before the operation, so Strawberry never closed ours."""
        operation = origin.current.get()
        execution = self.execution_context
        if operation is None or operation.graphql is not execution:
            return None
        if execution.graphql_document is not None:  # it got further than that
            return None
        origin.current.set(operation.outer)
        return operation


def _is_synchronous(caller: FrameType | None) -> bool:
    """Tell whether it is ``execute_sync()`` that runs the hooks of an operation."""
    while caller is not None and caller.f_globals.get("__name__") in _RUNS_HOOKS:
        caller = caller.f_back
    return caller is not None and caller.f_code is Schema.execute_sync.__code__


def is_collected(caller: FrameType) -> bool:
    """
    Tell whether the collector closes a hook, not the ``contextlib`` that Strawberry runs it with.

    It may do so in the middle of anything, also of a change to the context, which must not be
    changed then: the interpreter would crash.
    """
    return caller.f_globals.get("__name__") != "contextlib"


def _close(operation: Operation) -> None:
    # not by token: a stream may be closed in another context than it was opened in
    if origin.current.get() is operation:
        origin.current.set(operation.outer)
    _ended.set(operation)
    operation.errors_of_execution = operation.graphql.pre_execution_errors
    if operation.pending or operation.loads:
        _settle_later(operation)


def is_exposed() -> bool:
    """Tell whether responses list their hits: without ``DEBUG`` only where that is forced."""
    wanted = get_settings().EXPOSE_IN_RESPONSE
    return wanted == FORCE or (wanted is True and django_settings.DEBUG)


def _settle_later(operation: Operation) -> None:
    """In the loop's next turn: an extension listed before this one may still mask errors."""
    try:
        asyncio.get_running_loop().call_soon(_settle, operation)
    except RuntimeError:  # executed without a loop: get_results() comes next
        return


def _settle(operation: Operation) -> None:
    if operation.is_over:
        return
    operation.is_over = True
    execution = operation.graphql
    errors = getattr(execution.result, "errors", None)  # extensions may have changed them
    if execution.result is None or (
        execution.pre_execution_errors is not operation.errors_of_execution
    ):
        errors = execution.pre_execution_errors  # an extension failed after a result was there
    operation.errors = list(errors or ())
    guard.end_operation(operation)
