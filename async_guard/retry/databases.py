"""
What Django does differently inside a driven coroutine: its database calls wait for the worker.

* ``connections[alias]`` is the worker's own ``DatabaseWrapper``, so transaction state and hooks
  are those that code in ``sync_to_async`` sees;
* its methods that Django marks ``async_unsafe``, and cursors, hop: that is complete;
* whole operations hop at once (``SQLCompiler.execute_sql``, ``Atomic``): that is fast.

Outside of driven coroutines, and so in the worker itself, everything is Django's own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from asyncio import CancelledError, current_task, get_running_loop
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from copy import copy
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models.sql import compiler
from django.db.transaction import Atomic, TransactionManagementError
from django.db.utils import DEFAULT_DB_ALIAS, ConnectionHandler
from django.utils.asyncio import async_unsafe

from async_guard import origin
from async_guard.access import decorates_coroutine, learn, read_atomic, read_compiler, read_unsafe
from async_guard.deaf import Deafness
from async_guard.probe import Seam, patched
from async_guard.retry import flow
from async_guard.retry.call import Call, in_worker
from async_guard.retry.report import REFUSED, Reporter
from async_guard.retry.resume import Driven, current_drive, driven, hop, wait_for

ROWS = 100
"""So many rows of a cursor that is iterated are fetched in one hop."""
_UNMARKED = (
    "set_autocommit",
    "get_autocommit",
    "is_usable",
    "close_if_unusable_or_obsolete",
    "close_if_health_check_failed",
    "check_constraints",
    "run_and_clear_commit_hooks",
    "validate_thread_sharing",
)
"""Methods that talk to the database, or ask for its thread, although Django does not mark them."""
_COMPILERS = [
    each
    for each in vars(compiler).values()
    if inspect.isclass(each) and "execute_sql" in vars(each)
]
_unsafe_code = async_unsafe(lambda: None).__code__


class Databases:
    """The seams of a process, in Django and in the classes of its connections."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._undo = ExitStack()
        self._wrapped: set[type] = set()

    def install(self) -> None:
        """
        Patch every seam.

        Raises:
            SeamMissing: if one is not there; then none is patched.
        """
        with ExitStack() as stack:
            for seam in self._seams():
                stack.enter_context(patched(seam))
            self._undo = stack.pop_all()

    def uninstall(self) -> None:
        """Give Django back the very objects that it had."""
        self._undo.close()
        self._wrapped.clear()

    def _seams(self) -> Iterable[Seam]:
        yield Seam(ConnectionHandler, "__getitem__", self._get_connection)
        for name in ("__setitem__", "__delitem__"):
            yield Seam(ConnectionHandler, name, _change_connection)
        yield Seam(ConnectionHandler, "all", _all_connections)
        yield Seam(BaseDatabaseWrapper, "__init__", _make_connection)
        for each in _COMPILERS:
            yield Seam(each, "execute_sql", self._execute_sql)
        yield Seam(Atomic, "__enter__", self._enter)
        yield Seam(Atomic, "__exit__", _exit)
        yield Seam(SyncToAsync, "__call__", _in_turn)
        yield Seam(AsyncToSync, "__call__", _driving)

    # --- connections ---------------------------------------------------------------------------

    def _get_connection(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __getitem__(handler: Any, alias: str) -> Any:
            drive = current_drive()
            if drive is None:
                return original(handler, alias)
            context = SyncToAsync.thread_sensitive_context.get(None)
            key = handler, context, drive.executor, alias
            known = drive.flow.connections.get(key)
            if known is None:
                known = hop(original, handler, alias)
                self._wrap(type(known))
                if not drive.flow.is_over:
                    drive.flow.connections[key] = known
                else:
                    _end_lost(drive, known)
            return known

        return __getitem__

    def _wrap(self, wrapper: type) -> None:
        """Have the methods of a class of connections hop, once."""
        if wrapper in self._wrapped:
            return
        self._wrapped.add(wrapper)
        for owner in wrapper.__mro__:
            for name, method in list(vars(owner).items()):
                is_marked = getattr(method, "__code__", None) is _unsafe_code
                is_base = owner is BaseDatabaseWrapper and name == "ensure_connection"
                if (is_marked or name in _UNMARKED) and not is_base:
                    self._undo.enter_context(patched(Seam(owner, name, self._unsafe)))
        if "ensure_connection" not in vars(wrapper):
            wrap = functools.partial(self._unsafe, _ensure_connection)
            seam = Seam(wrapper, "ensure_connection", lambda original: wrap())
            self._undo.enter_context(patched(seam))

    def _unsafe(self, original: Callable[..., Any]) -> Callable[..., Any]:
        func, carry_out = original, self._carry_out
        is_access = original.__name__ not in _UNMARKED

        @functools.wraps(original)
        def hopping(*args: Any, **kwargs: Any) -> Any:
            drive = current_drive()
            if drive is None:
                return func(*args, **kwargs)
            call = Call(_bound(func, kwargs), args)
            if not is_access:
                wait_for(call)
            else:
                carry_out(drive, call, args[0])
            return _resumable(call.outcome())

        learn(hopping, read_unsafe)
        return hopping

    # --- whole operations ----------------------------------------------------------------------

    def _execute_sql(self, original: Callable[..., Any]) -> Callable[..., Any]:
        carry_out = self._carry_out

        @functools.wraps(original)
        def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
            drive = current_drive()
            if drive is None:
                return original(self, *args, **kwargs)
            call = Call(_bound(original, kwargs), (self, *args))
            carry_out(drive, call, self.connection)
            return _resumable(call.outcome())

        learn(execute_sql, read_compiler)
        return execute_sql

    def _enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __enter__(atomic: Any) -> Any:
            drive = current_drive()
            if drive is None:
                return original(atomic)
            if decorates_coroutine(sys._getframe(1)):
                with drive.refused():
                    return original(atomic)
            connection = connections[atomic.using or DEFAULT_DB_ALIAS]
            call = Call(original, (atomic,))
            call.begins = True
            try:
                return self._entered(drive, call, connection)
            finally:
                if not drive.held:
                    drive.flow.end_turn(drive)

        learn(__enter__, read_atomic)
        return __enter__

    def _entered(self, drive: Driven, call: Call, connection: Any) -> Any:
        (atomic,) = call.args
        try:
            self._carry_out(drive, call, connection)
        except BaseException as error:  # the task is cancelled, or the coroutine closed
            if not isinstance(error, CancelledError):
                call.settle_blocking()
            if call.succeeded:  # nobody else will end it
                atomic.__exit__(*sys.exc_info())
            raise
        entered = call.outcome()
        block = flow.Block(atomic, connection)
        drive.held = [*(drive.held or ()), block]
        drive.flow.hold(block)
        return entered

    def _carry_out(self, drive: Driven, call: Call, connection: Any) -> None:
        """Wait for *call* and report it, or make it here, so that Django refuses it."""
        report = self._reporter.noticed(sys._getframe(1), drive.flow, connection)
        if report is None or report is REFUSED:
            with drive.refused(), Deafness() if report is REFUSED else nullcontext():
                call.run()
            return
        report.begin(call, connection)
        try:
            wait_for(call)
        finally:
            report.end(call)


def _ensure_connection(connection: Any, *args: Any, **kwargs: Any) -> Any:
    """Call that of now: every ``TestCase`` puts one of its own into the base class for a while."""
    return BaseDatabaseWrapper.ensure_connection(connection, *args, **kwargs)


_ensure_connection.__name__ = "ensure_connection"


def _bound(function: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    return functools.partial(function, **kwargs) if kwargs else function


def _hopped(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return hop(_bound(function, kwargs), *args)


def _exit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __exit__(atomic: Any, *error: Any) -> Any:
        drive = current_drive()
        if drive is None:
            return original(atomic, *error)
        try:
            if drive.flow.is_over:
                with nullcontext() if error[0] is None else suppress(TransactionManagementError):
                    _ = connections[atomic.using or DEFAULT_DB_ALIAS]  # see _end_lost()
            return _exit_in_worker(original, atomic, error)
        finally:
            _let_go(drive, atomic)

    return __exit__


def _exit_in_worker(original: Callable[..., Any], atomic: Any, error: tuple[Any, ...]) -> Any:
    """End a block whatever happens to the task: one that was cancelled first is rolled back."""
    call = Call(original, (atomic, *error))
    try:
        wait_for(call)
    except BaseException:
        while call.state == Call.GIVEN_UP:
            call = Call(original, (atomic, *sys.exc_info()))
            call.is_due = True
            with suppress(CancelledError):  # once more: it is being raised already
                wait_for(call)
        raise
    return call.outcome()


def _end_lost(drive: Driven, connection: Any) -> None:
    """
    Roll back the block of a task that has outlived its request: *connection* is not in it.

    Raises:
        TransactionManagementError: where there is one, or else what follows would be committed.
    """
    lost = drive.lost(connection)
    if lost is not None:
        lost.inc_thread_sharing()  # its own thread has ended
        hop(lost.close)
        raise TransactionManagementError(
            "The request is over, and with its thread this transaction has ended."
        )


def _let_go(drive: Driven, atomic: Any) -> None:
    """The block is over; it may have been entered by another task."""
    drive.flow.release(atomic)
    mine = next((each for each in drive.held or () if each.atomic is atomic), None)
    drive.held = [each for each in drive.held or () if each is not mine]
    if not drive.held:
        drive.flow.end_turn(drive)


def _in_turn(original: Callable[..., Any]) -> Callable[..., Any]:
    """
    Code that uses the worker by itself waits for the transaction of another task, too.

    Here is also seen who goes on after the guarded call.
    """

    @functools.wraps(original)
    async def __call__(function: Any, *args: Any, **kwargs: Any) -> Any:
        mine = flow.current_in(get_running_loop())
        if mine is not None and function._thread_sensitive:
            if mine.is_over:
                mine.outlived_by(current_task())
            if mine.turn is not None and function is not in_worker:
                await mine.wait_for_turn(current_drive())
        return await original(function, *args, **kwargs)

    return __call__


def _driving(original: Callable[..., Any]) -> Callable[..., Any]:
    """
    Have an asynchronous view driven that stands below a synchronous middleware.

    Django makes ours synchronous then as well, so it never sees the view's coroutine.
    """

    @functools.wraps(original)
    def __call__(function: Any, *args: Any, **kwargs: Any) -> Any:
        operation = origin.current.get()
        if operation is not None and operation.request is not None and flow.current.get() is None:
            function = copy(function)
            function.awaitable = _driven(function.awaitable)
        return original(function, *args, **kwargs)

    return __call__


def _driven(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await driven(function(*args, **kwargs))

    return run


def _change_connection(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def change(handler: Any, alias: str, *value: Any) -> Any:
        drive = current_drive()
        if drive is not None:
            drive.flow.connections.clear()
        return hop(original, handler, alias, *value)

    return change


def _all_connections(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def all(handler: Any, initialized_only: bool = False) -> Any:
        return hop(original, handler, initialized_only)

    return all


def _make_connection(original: Callable[..., None]) -> Callable[..., None]:
    """A copy of a connection, too, belongs to the thread that will use it."""

    @functools.wraps(original)
    def __init__(connection: Any, *args: Any, **kwargs: Any) -> None:
        _hopped(original, connection, *args, **kwargs)

    return __init__


# --- what an operation gives that talks to the database later -------------------------------------


def _resumable(result: Any) -> Any:
    if isinstance(result, CursorWrapper):
        return ResumedCursor(result)
    return _Chunks(result) if inspect.isgenerator(result) else result


class _Chunks(Iterator[Any]):
    """Rows of ``QuerySet.iterator()``: each chunk is fetched in the worker."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks

    def __next__(self) -> Any:
        return hop(next, self._chunks)

    def close(self) -> None:
        hop(self._chunks.close)


class ResumedCursor(CursorWrapper):
    """A cursor whose calls are carried out in the worker that it belongs to."""

    def __init__(self, inner: CursorWrapper) -> None:
        super().__init__(inner.cursor, inner.db)
        self._inner = inner
        self._ahead: deque[Any] = deque()
        """Rows that were fetched for an iteration, which may end before them."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return functools.partial(_hopped, found) if callable(found) else found

    def __iter__(self) -> Iterator[Any]:
        while True:
            if not self._ahead:
                self._ahead.extend(hop(self._inner.fetchmany, ROWS))
            if not self._ahead:
                return
            yield self._ahead.popleft()

    def fetchone(self) -> Any:
        return self._ahead.popleft() if self._ahead else hop(self._inner.fetchone)

    def fetchmany(self, *size: int, **named: int) -> Any:
        if not self._ahead:
            return _hopped(self._inner.fetchmany, *size, **named)
        wanted = next(iter((*size, *named.values())), None) or self._inner.arraysize
        rows = [self._ahead.popleft() for _ in range(min(wanted, len(self._ahead)))]
        missing = wanted - len(rows)
        return [*rows, *hop(self._inner.fetchmany, missing)] if missing else rows

    def fetchall(self) -> Any:
        if not self._ahead:
            return hop(self._inner.fetchall)
        rows = [*self._ahead, *hop(self._inner.fetchall)]
        self._ahead.clear()
        return rows

    def nextset(self) -> Any:
        return self._anew(self._inner.nextset)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        return self._anew(self._inner.callproc, *args, **kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return self._anew(self._inner.execute, *args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        return self._anew(self._inner.executemany, *args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        hop(self._inner.__exit__, *error)

    def _anew(self, execute: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on with other rows. Some drivers return their cursor."""
        self._ahead.clear()
        result = _hopped(execute, *args, **kwargs)
        return self if result is self.cursor else result
