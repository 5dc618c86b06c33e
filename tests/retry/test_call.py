"""A hop to the thread of a request: what the code in it sees is what asgiref lets it see."""

import asyncio
import contextvars
import os
import threading

import pytest
from asgiref.local import Local
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async

from async_guard.retry.call import Call, known_thread

pytestmark = pytest.mark.asyncio
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


@pytest.fixture(params=["asgiref", "direct"])
def carried_out(request):
    """Return what carries a function out, in one of the two ways, and returns its result."""

    async def carried_out(function, *args):
        made = Call(function, args)
        await made.carry_out(known_thread() if request.param == "direct" else None)
        return made.outcome()

    return carried_out


async def test_thread_of_the_request(carried_out):
    """
    Every call of a request runs in the one thread that its other synchronous code runs in.
    """
    async with ThreadSensitiveContext():
        first = await carried_out(threading.get_ident)
        second = await carried_out(threading.get_ident)

        assert first == second == await sync_to_async(threading.get_ident)()
    assert first != threading.get_ident()


async def test_context(carried_out):
    """
    Context variables and asgiref's locals are seen in the call, and their changes after it.
    """
    local = Local()

    def change():
        seen = VARIABLE.get(), local.name
        VARIABLE.set("inside")
        local.name = "inside"
        return seen

    async with ThreadSensitiveContext():
        await carried_out(change_nothing)
        VARIABLE.set("outside")
        local.name = "outside"

        assert await carried_out(change) == ("outside", "outside")
        assert (VARIABLE.get(), local.name) == ("inside", "inside")


def change_nothing():
    """Make the thread, for those after it."""


async def test_back_to_the_loop(carried_out):
    """
    ``async_to_sync`` in the call runs in the loop that waits for it.
    """

    async def where():
        return asyncio.get_running_loop(), threading.get_ident()

    async with ThreadSensitiveContext():
        await carried_out(change_nothing)
        found = await carried_out(async_to_sync(where))

        assert found == (asyncio.get_running_loop(), threading.get_ident())
        assert await carried_out(lambda: SyncToAsync.threadlocal.main_event_loop_pid) == os.getpid()


async def test_cancelled_while_it_waits_for_the_loop(carried_out):
    """
    Whoever is cancelled does not wait for the end of what its call awaits in the loop.
    """
    began, ended = asyncio.Event(), []

    async def long():
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("long")

    async def work():
        async with ThreadSensitiveContext():
            await carried_out(change_nothing)
            await carried_out(async_to_sync(long))

    task = asyncio.ensure_future(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)

    assert ended == ["long"]


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(1), KeyboardInterrupt()])
async def test_errors_of_the_call(error):
    """
    What the call raised is kept as it is, also what no future takes.
    """

    def fail():
        raise error

    async with ThreadSensitiveContext():
        await sync_to_async(change_nothing)()
        failed = Call(fail)
        await failed.carry_out(known_thread())

    assert (failed.error, failed.succeeded) == (error, False)
