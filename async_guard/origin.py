"""
On whose behalf code runs: a GraphQL operation and field, a request and its view, or a task.

What is running is kept in a ``ContextVar``, which tasks and ``sync_to_async`` inherit, so that
concurrent requests never mix. It holds one object per operation, put there by the middleware or
by the Strawberry extension; which *field* runs is read from the stack, and only when there is a
hit. Without either of the two the stack tells what it can.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from types import FrameType
from typing import Any

import structlog
from django.http import HttpRequest

from async_guard.callsite import CallSite, Edge, code_of, known_codes


class Operation:
    """One GraphQL operation, one request, or one task: what hits and loads are counted by."""

    __slots__ = (
        "__weakref__",
        "errors",
        "errors_of_execution",
        "exposed",
        "graphql",
        "is_handing_out",
        "is_over",
        "is_synchronous",
        "is_task",
        "loads",
        "outer",
        "pending",
        "request",
    )

    def __init__(
        self,
        request: Any = None,
        *,
        graphql: Any = None,
        outer: Operation | None = None,
        is_task: bool = False,
    ) -> None:
        self.outer = outer
        """What ran before it, and goes on when a stream hands out a result."""
        self.is_task = is_task
        """Made for a task, which nobody is answered for."""
        self.request = request
        """The ``HttpRequest``; only its method, route and view are ever read."""
        self.graphql = graphql
        """The execution context of Strawberry's operation; None outside GraphQL."""
        self.loads: dict[str, Any] = {}
        """Lazy loads in worker threads, by fingerprint."""
        self.pending: list[Any] = []
        """Its ``PendingHit`` s: those whose outcome is not known yet."""
        self.errors: list[BaseException] = []
        """What it answered with."""
        self.errors_of_execution: Any = None
        """What Strawberry kept of the execution; another list later means a later failure."""
        self.is_handing_out = False
        """A result of a stream is on its way through the extensions."""
        self.is_over = False
        self.is_synchronous = False
        """Of ``execute_sync()``, which can await nothing."""
        self.exposed: list[Any] | None = None
        """The operation's hits, where the response is to list them."""

    def is_answering(self) -> bool:
        """Execution is over, and extensions may still change the result."""
        is_whole = getattr(self.graphql, "result", None) is not None and not self.is_in_parts()
        return self.is_handing_out or (is_whole and not self.is_over)

    def is_in_parts(self) -> bool:
        """``@defer`` and ``@stream``: the result is the first of several."""
        result = getattr(self.graphql, "result", None)
        return hasattr(result, "initial_result") or hasattr(result, "has_next")


current: ContextVar[Operation | None] = ContextVar("async_guard_operation", default=None)


def is_exposed() -> bool:
    """Tell whether the running operation's response is to list its hits."""
    operation = current.get()
    return operation is not None and operation.exposed is not None


@dataclass(frozen=True, slots=True)
class Origin:
    """Names of what runs; every one may be unknown."""

    operation_name: str | None = None
    operation_type: str | None = None
    field: str | None = None
    """``Type.field``."""
    path: str | None = None
    """Response path, list indexes folded: ``users[].profile``."""
    resolver: str | None = None
    parent: str | None = None
    """``Type.field`` of the field that produced the parent object."""
    plain_field: bool | None = None
    """A ``strawberry.field`` with a sync resolver on a ``strawberry_django.type``."""
    method: str | None = None
    route: str | None = None
    view: str | None = None
    task: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    trace_flags: str | None = None


@dataclass(frozen=True, slots=True)
class FieldOrigin:
    """What a GraphQL library says of the field that runs."""

    names: dict[str, Any]
    """Keyword arguments of ``Origin``."""
    find_site: Callable[[], CallSite | None]
    """Find where the project defines the field or its resolver."""


def read_origin(frame: FrameType | None) -> tuple[Origin, FieldOrigin | None]:
    """Say on whose behalf *frame* runs, and where its GraphQL field is defined."""
    operation = current.get()
    field, request = _from_stack(frame, _request_of(operation))
    if field is None and operation is not None and operation.graphql is not None:
        module, execution = graphql_reader(), operation.graphql
        field = module.find_field(execution, frame) or module.read_root_field(execution, frame)
    names = _names(operation, request, field)
    if not (names.get("operation_type") or request):
        names["task"] = _task_name()
    return Origin(**names), field


def origin_of(field: FieldOrigin | None, task: asyncio.Task[Any] | None) -> Origin:
    """Say on whose behalf *field* runs, in the context that it runs in but on another stack."""
    operation = current.get()
    request = _request_of(operation)
    names = _names(operation, request, field)
    if task is not None and not (names.get("operation_type") or request):
        names["task"] = task.get_name()
    return Origin(**names)


def _names(operation: Operation | None, request: Any, field: FieldOrigin | None) -> dict[str, Any]:
    names: dict[str, Any] = {}
    if operation is not None and operation.graphql is not None:
        names |= graphql_reader().read_operation(operation.graphql)
    if field is not None:
        names |= field.names
    return names | _request_names(request) | _context_names()


def _request_of(operation: Operation | None) -> Any:
    if operation is None:
        return None
    return operation.request or _request_in_context(operation.graphql)


def _from_stack(frame: FrameType | None, request: Any) -> tuple[FieldOrigin | None, Any]:
    """Return the innermost field, and the request, which may be known already."""
    codes, view, outer = known_codes(), Edge.VIEW, frame_beyond()
    field, is_known = None, request is not None
    while frame is not None and not (is_known and field is not None):
        code = frame.f_code
        known = codes.get(id(code)) or code_of(code)
        if field is None and known.package in _GRAPHQL:
            field = graphql_reader().read_field(frame)
        elif known.edge is view and not is_known:
            request = frame.f_locals.get("request")
            if hasattr(request, "method"):
                break
        frame = frame.f_back
        if frame is None:
            frame, outer = outer, None
    return field, request


def no_frame() -> FrameType | None:
    """While ``resume`` is off."""
    return None


frame_beyond: Callable[[], FrameType | None] = no_frame
"""Returns where the running stack goes on, if a greenlet cuts it off."""


_GRAPHQL = ("graphql", "strawberry", "strawberry_django")


def learn_libraries() -> None:
    """Import what reads the frames of the libraries that are in use: a hit should not wait."""
    if any(package in sys.modules for package in _GRAPHQL):
        with suppress(ImportError):  # it is just being imported
            graphql_reader()


@cache
def graphql_reader() -> Any:
    """Return the integration, which is only imported where its library already is."""
    return importlib.import_module("async_guard.integrations.graphql")


def _request_in_context(execution: Any) -> Any:
    """Return the request that Strawberry's context holds. Touches nothing that could be lazy."""
    context = getattr(execution, "context", None)
    try:
        held = context if type(context) is dict else object.__getattribute__(context, "__dict__")
    except AttributeError:
        return None
    request = held.get("request")
    return request if issubclass(type(request), HttpRequest) else None


def _request_names(request: Any) -> dict[str, Any]:
    if request is None:
        return {}
    match = getattr(request, "resolver_match", None)
    return {
        "method": getattr(request, "method", None),
        "route": getattr(match, "route", None),
        "view": view_name(getattr(match, "func", None)),
    }


def view_name(view: Any) -> str | None:
    """Return ``module:qualname`` of a view, of its class where it is class based."""
    if view is None:
        return None
    while isinstance(view, partial):
        view = view.func
    found = getattr(view, "view_class", None) or inspect.unwrap(view)
    name = getattr(found, "__qualname__", None) or type(found).__qualname__
    return f"{getattr(found, '__module__', '?')}:{name.replace('.<locals>', '')}"


def _context_names() -> dict[str, Any]:
    """Read the ids that django-structlog and OpenTelemetry keep, and nothing else of theirs."""
    bound = structlog.contextvars.get_contextvars()
    names = {
        key: str(bound[key])
        for key in ("request_id", "correlation_id")
        if issubclass(type(bound.get(key)), str | int | uuid.UUID)  # isinstance() asks lazy objects
    }
    if "opentelemetry.trace" in sys.modules:
        module = importlib.import_module("async_guard.integrations.opentelemetry")
        names |= module.current_ids()
    return names


def _task_name() -> str | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return task.get_name() if task is not None else None
