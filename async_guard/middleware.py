"""Opens an origin per request, and finds the hits that a view swallowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from async_guard import origin
from async_guard.guard import guard
from async_guard.origin import Operation
from async_guard.retry.modes import driven, switch


class AsyncGuardMiddleware:
    """Put it first in ``MIDDLEWARE``: it speaks for what stands below it."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(cast("Callable[..., Any]", self))

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not guard.installed:
            return cast("HttpResponseBase", self.get_response(request))
        return self._aopened(request) if self.is_async else self._opened(request)

    def _opened(self, request: HttpRequest) -> HttpResponseBase:
        operation = Operation(request)
        token = origin.current.set(operation)
        try:
            return cast("HttpResponseBase", self.get_response(request))
        finally:
            origin.current.reset(token)
            close(operation)

    async def _aopened(self, request: HttpRequest) -> HttpResponseBase:
        operation = Operation(request)
        token = origin.current.set(operation)
        try:
            response = await driven(self.get_response(request))
            if switch.drive_stream is not None and getattr(response, "is_async", False):
                response.streaming_content = switch.drive_stream(response.streaming_content)
            return cast("HttpResponseBase", response)
        finally:
            origin.current.reset(token)
            close(operation)


def close(operation: Operation) -> None:
    """Settle the request's hits."""
    operation.is_over = True
    if operation.pending or operation.loads:
        guard.end_operation(operation)
