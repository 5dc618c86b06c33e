"""
How long an allowed call blocked the loop.

Django's ``async_unsafe`` closes over the function that it guards. The first allowed call of each
puts a stopwatch into that closure; nothing is timed before, and ``restore`` takes it out again.
A cursor is only the start of a statement, so its time includes the statement's, which Django
offers to measure (``connection.execute_wrappers``,
https://docs.djangoproject.com/en/stable/topics/db/instrumentation/).
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from types import CellType, FrameType
from typing import Any

Report = Callable[[float], None]


class Stopwatch:
    """Times the calls that are announced to it."""

    def __init__(self) -> None:
        self._swapped: dict[int, tuple[CellType, Any]] = {}
        self._open = threading.local()

    def time_call(self, frame: FrameType, report: Report) -> None:
        """
        Time the call that *frame*, one of ``async_unsafe``'s wrapper, is about to make.

        Args:
            report: called with milliseconds, when the call, and the statement of a cursor, ended.
        """
        cell = _cell_of(frame)
        if cell is None:
            report(0.0)
            return
        if id(cell) not in self._swapped:
            function = cell.cell_contents
            self._swapped[id(cell)] = (cell, function)
            cell.cell_contents = self._timed(function)
        self._open.report = report

    def restore(self) -> None:
        """Give every closure its own function back."""
        swapped, self._swapped = self._swapped, {}
        for cell, function in swapped.values():
            cell.cell_contents = function

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            report: Report | None = self._open.__dict__.pop("report", None)
            if report is None:
                return function(*args, **kwargs)
            began = time.perf_counter()
            is_cursor = False
            try:
                result = function(*args, **kwargs)
                is_cursor = function.__name__ in ("cursor", "chunked_cursor")
                return result
            finally:
                took = time.perf_counter() - began
                if is_cursor:
                    _time_statement(args[0], took, report)
                else:
                    report(took * 1000)

        return timed


def _cell_of(frame: FrameType) -> CellType | None:
    """Return the closure cell that holds the guarded function of *frame*."""
    function = frame.f_locals.get("func")
    connection = (frame.f_locals.get("args") or (None,))[0]
    for klass in type(connection).__mro__:
        method: Any = vars(klass).get(getattr(function, "__name__", ""))
        code = getattr(method, "__code__", None)
        if code is frame.f_code and method.__closure__ is not None:
            cell: CellType = method.__closure__[code.co_freevars.index("func")]
            if cell.cell_contents is function:
                return cell
    return None


def _time_statement(connection: Any, took: float, report: Report) -> None:
    """Add the time of the next statement on *connection*, then leave it as it was."""

    def timed(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        connection.execute_wrappers.remove(timed)
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            report((took + time.perf_counter() - began) * 1000)

    connection.execute_wrappers.append(timed)
