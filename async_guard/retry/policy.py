"""What may be retried: by settings, by marks on functions, and while the breaker is closed."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError

from async_guard.origin import read_origin
from async_guard.problem import Problem
from async_guard.retry.breaker import Breakers
from async_guard.retry.watch import watch
from async_guard.settings import Settings, get_settings

Function = TypeVar("Function", bound=Callable[..., Any])
SAFE, NEVER = "safe", "never"
_MARK = "__async_guard_retry__"
_ANSWERS = {"55P03", "40P01", "40001", "57014"}
"""Lock not available, deadlock, serialization failure, statement cancelled."""


def retry_safe(function: Function) -> Function:
    """Mark a function that may run twice: also a mutation's resolver is rerun then."""
    return _marked(function, SAFE)


def no_retry(function: Function) -> Function:
    """
    Mark a function in which nothing is retried: what Django refuses stays refused.

    So does what a class's methods do, and a GraphQL field that has the function for its resolver.
    """
    for each in _functions(function):
        if isinstance(each, FunctionType) and id(each.__code__) not in watch.never:
            # of its own: all that one decorator, or as_view(), has made share theirs
            code = each.__code__ = each.__code__.replace()
            watch.never[id(code)] = code
    return _marked(function, NEVER)


def _functions(marked: Any) -> Iterator[Any]:
    yield marked
    yield inspect.unwrap(marked)
    yield _resolver_of(marked)
    if isinstance(marked, type):
        yield from vars(marked).values()


def _marked(function: Function, mark: str) -> Function:
    for each in (function, _resolver_of(function)):  # Strawberry copies its fields
        if each is not None:
            setattr(each, _MARK, mark)
    return function


def _resolver_of(field: Any) -> Any:
    return getattr(getattr(field, "base_resolver", None), "wrapped_func", None)


def mark_of(function: Any) -> str | None:
    """Return how *function*, or what it wraps, is marked."""
    while function is not None:
        found: str | None = getattr(function, _MARK, None)
        if found is not None:
            return found
        function = getattr(function, "__wrapped__", None)
    return None


def is_failure(error: BaseException | None) -> bool:
    """
    Tell the database's failure from an answer such as ``IntegrityError`` or ``DoesNotExist``.

    An answer is also that a row is locked (``nowait``), or that two transactions are in each
    other's way: PostgreSQL says so by a code.
    """
    is_answer = getattr(getattr(error, "__cause__", None), "sqlstate", None) in _ANSWERS
    return isinstance(error, OperationalError | InterfaceError) and not is_answer


class Policy:
    """Settings, marks and breakers, asked in this order."""

    def __init__(self, settings: Settings) -> None:
        self.breakers = Breakers(settings)

    def permits(self, problem: Problem, frame: FrameType | None, field: str | None = None) -> bool:
        """
        Tell whether the project lets an access be carried out in the worker.

        Args:
            frame: where it is made; None where marks were looked at already.
            field: ``Type.field``, where the caller knows it.
        """
        if watch.excludes(frame):
            return False
        settings = get_settings()  # as they are now
        allow, deny = settings.RETRY_ALLOW, settings.RETRY_DENY
        if not (allow or deny):
            return True
        names = {*problem.names(), field or _field_of(frame)}
        return not _matches(names, deny) and (not allow or _matches(names, allow))

    def admits(self, problem: Problem) -> bool:
        """Tell whether the breaker lets a retry through."""
        return self.breakers.admit(problem.fingerprint)

    def ended(self, problem: Problem, took_s: float, *, failed: bool) -> None:
        """Tell the breaker how it went."""
        self.breakers.ended(problem.fingerprint, took_s, failed=failed)


def _field_of(frame: FrameType | None) -> str | None:
    return read_origin(frame)[0].field if frame is not None else None


def _matches(names: set[str | None], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, each) for name in names if name for each in patterns)
