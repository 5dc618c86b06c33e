"""
Runs coroutines so that a synchronous call inside them can wait without blocking the loop.

Each step of a coroutine (what runs between two ``await`` s) runs in a greenlet of its own. A call
that has to go to the worker thread switches to the greenlet's parent, which waits for the worker
as any coroutine does and then switches back: the step goes on where it was, no line runs twice.
SQLAlchemy's asyncio layer stands on the same
(https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html).

A greenlet shares the ``Context`` of its parent, so that contextvars are the task's own.
"""

from __future__ import annotations

import gc
import sys
import threading
from asyncio import AbstractEventLoop, current_task, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from types import FrameType
from typing import Any

try:
    from greenlet import GreenletExit, getcurrent, greenlet
except ImportError as error:  # pragma: no cover - needs an environment without greenlet
    raise ImportError(
        'ASYNC_GUARD["AUTO_RETRY"] = "resume" needs greenlet: pip install "async-guard[resume]"'
    ) from error

from async_guard.retry.call import Call, known_thread, raise_as_below, waiting_executor
from async_guard.retry.flow import Block, Flow, entered, new_flow
from async_guard.retry.locks import held_locks, released


class Step(greenlet):
    """
    Runs what a coroutine does until its next ``await``, and then another one's.

    To make a greenlet costs twenty times what a switch costs, so it serves again and again.
    """

    __slots__ = ("caller", "drive", "raised", "result")

    parent: greenlet

    def __init__(self) -> None:
        self.caller = self.parent
        """The parent, which is slower to ask for."""
        self.drive: Driven | None = None
        self.result: Any = None
        self.raised: BaseException | None = None

    def run(self, resume: Any, value: Any) -> None:
        """
        Carry out call after call.

        ``switch`` returns, for each, ``None`` when *result* or *raised* is there, or a ``Call``
        that the step waits for in the middle of it.
        """
        while True:
            try:
                self.result = resume(value)
            except StopIteration as end:
                self.result = end.value
                self.drive.is_over = True  # type: ignore[union-attr]
            except GreenletExit:  # nobody will ever go on with it
                raise
            except BaseException as error:
                self.raised = error
            resume = value = None  # nothing is kept alive by a step that waits
            resume, value = self.caller.switch(None)

    def called_from(self, caller: greenlet) -> None:
        """Have *caller* get what the step does next: an eager task begins in another's step."""
        if self.caller is not caller:
            self.parent = self.caller = caller


class _NoSteps(list[Step]):
    """Keeps none: what is driven now has outlived its flow, and nobody would let its steps go."""

    def append(self, step: Step) -> None:
        step.throw(GreenletExit)


class _Idle(threading.local):
    """The steps of a thread that wait for something to do."""

    def __init__(self) -> None:
        self.steps: list[Step] = _NoSteps()
        self.flows = 0


_idle = _Idle()


def flow_opened() -> None:
    """Count a flow of this thread."""
    if not _idle.flows:
        _idle.steps = []
    _idle.flows += 1


def flow_closed() -> None:
    """Let the steps of this thread go when nothing is driven any more."""
    _idle.flows -= 1
    if _idle.flows <= 0:
        _idle.flows = 0
        steps, _idle.steps = _idle.steps, _NoSteps()
        while steps:
            steps.pop().throw(GreenletExit)


def _of_the_coroutine(name: str) -> Any:
    """Return a property with the value that the coroutine has."""
    return property(lambda drive: getattr(drive._coro, name))


class Driven(Coroutine[Any, Any, Any]):
    """A coroutine run in steps. It passes for the one that it runs: same name, code and frame."""

    _executor: Executor | None

    __slots__ = (
        "__qualname__",
        "_coro",
        "_executor",
        "_step",
        "_wait",
        "flow",
        "held",
        "is_closing",
        "is_over",
        "is_refused",
        "told",
    )

    def __init__(self, coro: Any, flow: Flow) -> None:
        try:
            self.__qualname__ = coro.__qualname__  # a class takes no property of that name
        except AttributeError:
            self.__qualname__ = type(coro).__qualname__
        self.flow = flow
        self.held: list[Block] | None = None
        """The transactions that it is in."""
        self.told: Any = None
        """The one whose wait was told."""
        self.is_closing = False
        self.is_over = False
        """The coroutine has returned."""
        self.is_refused = False
        """A call was refused: it is made where it stands, so that Django says so."""
        self._coro = coro
        self._step: Step | None = None
        self._wait: Coroutine[Any, Any, None] | None = None
        """For the worker, on behalf of the step."""

    # For those who look. No ``__getattr__``: it would slow down every attribute, those of each
    # step among them.
    __name__ = _of_the_coroutine("__name__")
    cr_await = _of_the_coroutine("cr_await")
    cr_code = _of_the_coroutine("cr_code")
    cr_frame = _of_the_coroutine("cr_frame")
    cr_origin = _of_the_coroutine("cr_origin")
    cr_running = _of_the_coroutine("cr_running")
    cr_suspended = _of_the_coroutine("cr_suspended")

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def send(self, value: Any = None, resume: Callable[[Any], Any] | None = None) -> Any:
        """
        Let a step run until the coroutine awaits something or ends, or waits for the worker.

        Most tasks do nothing but this once or twice, so it is written for few calls and frames: an
        exception leaves a traceback of each that it passes.

        Args:
            resume: is given the value instead of ``send``.
        """
        if self._wait is not None:
            result = self._wait_on(resume or self._wait.send, value)
        else:
            steps, caller = _idle.steps, getcurrent()
            step = steps.pop() if steps else Step()
            if step.caller is not caller:
                step.called_from(caller)
            step.drive = self
            step.gr_context = caller.gr_context
            asked = step.switch(resume or self._coro.send, value)
            if asked is None:
                result = self._ended(step, steps)
            else:
                self._step = step
                result = self._until_it_waits(step, asked)
        if self.is_over:
            raise StopIteration(result)
        return result

    __next__ = send

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        error = _instance(kind, value, trace)
        if isinstance(error, GeneratorExit):
            self.is_closing = True
        return self.send(error, (self._coro if self._wait is None else self._wait).throw)

    def close(self) -> None:
        self.is_closing = True
        if self._wait is None:
            if not self.is_over:
                self.send(self._coro, _close)
            return
        try:
            self.throw(GeneratorExit())
        except (GeneratorExit, StopIteration):
            return
        raise RuntimeError("coroutine ignored GeneratorExit")

    @property
    def executor(self) -> Executor | None:
        """The thread that waits for it in ``async_to_sync``: the same for all of a coroutine."""
        try:
            found = self._executor
        except AttributeError:  # most coroutines never ask
            found = self._executor = waiting_executor()
        return found

    def lost(self, connection: Any) -> Any:
        """Return the connection that it is in a transaction on, if *connection* has replaced it."""
        blocks = self.held or ()
        held = [each.connection for each in blocks if each.connection.alias == connection.alias]
        return held[0] if held and connection not in held else None

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Until the block ends calls are made where they stand, so that Django refuses them."""
        self.is_refused = True
        try:
            yield
        finally:
            self.is_refused = False

    def _until_it_waits(self, step: Step, asked: Call | None) -> Any:
        """Have the worker carry out what the step asks for, as long as that is done at once."""
        while asked is not None:
            self._wait = self._carried_out(asked)
            try:
                return self._wait.send(None)
            except StopIteration:
                self._wait = None
                asked = _gone_on(step).switch()
            except BaseException as error:
                self._wait = None
                asked = _gone_on(step).throw(error)
        self._step = None
        return self._ended(step, _idle.steps)

    def _carried_out(self, call: Call) -> Coroutine[Any, Any, None]:
        """Return what waits for *call*, and before that for the transaction of another task."""
        if self.flow.is_over:
            self.flow.outlived_by(current_task())
        if self.flow.turn is not None and not self.flow.is_turn_of(self):
            return self._in_turn(call)
        if call.begins:
            self.flow.begin_turn(self)
        return call.carry_out(known_thread())

    async def _in_turn(self, call: Call) -> None:
        try:
            await self.flow.wait_for_turn(self)
        except BaseException:
            call.state = Call.GIVEN_UP
            raise
        await self._carried_out(call)

    def _ended(self, step: Step, steps: list[Step]) -> Any:
        """Return or raise what the step did, which is free for another coroutine now."""
        if self.flow.turn is not None:
            self.flow.end_turn(self)
        result, error = step.result, step.raised
        step.result = step.raised = step.gr_context = step.drive = None
        steps.append(step)
        if self.held:
            if self.is_over or error is not None:
                self._ended_in_block()
            else:
                self.flow.awaited(self)
        if error is None:
            return result
        try:
            raise_as_below(error)
        finally:
            error = None  # its traceback leads here

    def _ended_in_block(self) -> None:
        """The coroutine is at its end: nobody will end the blocks that it entered by hand."""
        if self.flow.worker is not None:  # its connections are closed with it, and roll back
            for block in self.held or ():
                self.flow.release(block.atomic)
            self.held = None

    def _wait_on(self, resume: Callable[[Any], Any], value: Any) -> Any:
        step = self._step
        assert step is not None
        try:
            return resume(value)
        except StopIteration:
            self._wait = None
        except BaseException as error:
            self._wait = None
            return self._until_it_waits(step, _gone_on(step).throw(error))
        return self._until_it_waits(step, _gone_on(step).switch())


def _gone_on(step: Step) -> Step:
    """Return *step*, to be continued from here."""
    step.called_from(getcurrent())
    return step


def _close(coro: Any) -> None:
    coro.close()


def _instance(kind: Any, value: Any, trace: Any) -> BaseException:
    """Return the exception of a call of ``throw()``, which may have three arguments."""
    error = kind if isinstance(kind, BaseException) else value
    if not isinstance(error, BaseException):
        error = kind() if value is None else kind(value)
    found: BaseException = error if trace is None else error.with_traceback(trace)
    return found


class _Collector:
    """
    Knows whether the garbage collector runs.

    A finaliser that it calls must not wait for the worker: a switch in the middle of a collection
    crashes the interpreter.
    """

    def __init__(self) -> None:
        self.thread = 0
        """In which it runs."""

    def note(self, phase: str, info: dict[str, int]) -> None:
        self.thread = threading.get_ident() if phase == "start" else 0

    def is_running(self) -> bool:
        return self.thread == threading.get_ident()


_collector = _Collector()


def watch_collector() -> None:
    gc.callbacks.append(_collector.note)


def unwatch_collector() -> None:
    gc.callbacks.remove(_collector.note)
    _collector.thread = 0


def current_drive() -> Driven | None:
    """Return what runs now if it can wait for the worker, else None."""
    step = getcurrent()
    drive = step.drive if type(step) is Step else None
    if drive is None or drive.is_refused or (_collector.thread and _collector.is_running()):
        return None
    return drive


def is_resumable() -> bool:
    """Tell whether a call made here can wait for the worker."""
    return type(getcurrent()) is Step


def frame_beyond() -> FrameType | None:
    """Return the frame that the running step was begun from, or was last gone on with."""
    step = getcurrent()
    return step.parent.gr_frame if type(step) is Step else None


def current_step() -> Step | None:
    """Return the step that runs, if it may be left."""
    step = getcurrent()
    return step if type(step) is Step and not _collector.is_running() else None


def hop(function: Callable[..., Any], *args: Any) -> Any:
    """Return what *function* returns in the worker thread; where no step runs, just call it."""
    if current_step() is None:
        return function(*args)
    call = Call(function, args)
    wait_for(call)
    return call.outcome()


def wait_for(call: Call) -> None:
    """
    Suspend the step until *call* was carried out.

    Raises:
        CancelledError: and whatever else is thrown into the task meanwhile.
    """
    step = getcurrent()
    assert type(step) is Step and step.drive is not None
    locks = held_locks(sys._getframe(1))
    if locks:
        with released(locks):
            _wait_for(call, step, step.drive)
    else:
        _wait_for(call, step, step.drive)


def _wait_for(call: Call, step: Step, drive: Driven) -> None:
    if drive.is_closing:
        call.carry_out_blocking()
    else:
        step.caller.switch(call)


async def driven(coro: Coroutine[Any, Any, Any]) -> Any:
    """Await *coro*, whose synchronous calls may wait."""
    if is_resumable():
        return await coro
    async with entered() as flow:
        return await Driven(coro, flow)


class _DrivenStep(Driven):
    """What a generator does for one of its rows: a block may go on in the next one's."""

    __slots__ = ()

    def _ended_in_block(self) -> None: ...


class DrivenGenerator(AsyncGenerator[Any, Any]):
    """An asynchronous generator whose synchronous calls may wait: a subscription, a stream."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._flow = new_flow()
        self._loop: AbstractEventLoop | None = None
        """Set while it is neither new nor at its end."""

    def __del__(self) -> None:
        """Close what nobody reads on, as the loop would: that could not end a block of it."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.create_task, self.aclose())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __aiter__(self) -> DrivenGenerator:
        return self

    async def __anext__(self) -> Any:
        return await self._driven(self._generator.__anext__())

    async def asend(self, value: Any) -> Any:
        return await self._driven(self._generator.asend(value))

    async def athrow(self, *args: Any) -> Any:
        return await self._driven(self._generator.athrow(*args))

    async def aclose(self) -> None:
        close = getattr(self._generator, "aclose", None)
        if close is not None:
            await self._driven(close(), is_last=True)

    async def _driven(self, awaitable: Awaitable[Any], *, is_last: bool = False) -> Any:
        if is_resumable():
            return await awaitable
        self._loop = get_running_loop()
        async with entered(self._flow) as flow:
            try:
                return await _DrivenStep(_awaited(awaitable), flow)
            except BaseException:  # also any other than StopAsyncIteration ends a generator
                is_last = True
                raise
            finally:
                if is_last:
                    self._loop = None
                    await self._flow.close()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
