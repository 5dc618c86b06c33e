"""``guarded``: a block that is watched, or a callable whose refused calls are retried."""

from __future__ import annotations

import functools
import inspect
from asyncio import _get_running_loop
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction

from async_guard.guard import guard
from async_guard.retry.modes import OFF, RESUME, driven, switch
from async_guard.retry.policy import NEVER, mark_of

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def guarded() -> AbstractContextManager[None]: ...
@overload
def guarded(function: Function) -> Function: ...
def guarded(function: Any = None) -> Any:
    """
    Guard a block of code or a function.

    Args:
        function: a view, a consumer's method, a task; synchronous or asynchronous. It is retried
            as ``AUTO_RETRY`` says. Under ``rerun`` a synchronous one may run twice, and an
            asynchronous one is not retried.

    Returns:
        Without a function a context manager: what is refused in the block is reported, even
        where the guard is not enabled. With a function one that does the same. A synchronous one
        gives an awaitable where it is called while a loop runs, and else its value.
    """
    if function is None:
        return guard.guarded()
    if _is(inspect.isasyncgenfunction, function):
        return _guarded_generator(function)
    if _is(iscoroutinefunction, function):
        return _guarded_async(function)
    return _guarded_sync(function)


def _is(asked: Callable[[Any], bool], function: Any) -> bool:
    """Ask of a function, or of what an object does when it is called."""
    return asked(function) or asked(type(function).__call__)


def _guarded_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def guarded_function(*args: Any, **kwargs: Any) -> Any:
        return await driven(function(*args, **kwargs))

    return guarded_function


def _guarded_generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded_function(*args: Any, **kwargs: Any) -> Any:
        drive = switch.drive_stream
        generator = function(*args, **kwargs)
        return generator if drive is None else drive(generator)

    return guarded_function


def _guarded_sync(function: Callable[..., Any]) -> Callable[..., Any]:
    plans: dict[Any, Any] = {}

    @functools.wraps(function)
    def guarded_function(*args: Any, **kwargs: Any) -> Any:
        if _get_running_loop() is None:
            return function(*args, **kwargs)
        return run(*args, **kwargs)

    async def run(*args: Any, **kwargs: Any) -> Any:
        machine = switch.machine
        if switch.mode == OFF or mark_of(function) == NEVER:
            return function(*args, **kwargs)
        if switch.mode == RESUME:
            return await driven(_called(function, args, kwargs))
        plan = plans.get(machine)
        if plan is None:
            plans.clear()
            plan = plans[machine] = machine.plan_of(function)
        result = machine.rerunner.attempt(plan, args, kwargs)
        return await result if machine.is_retried(result) else result

    return guarded_function


async def _called(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)
