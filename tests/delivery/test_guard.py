"""``Guard``: what switches watching on and off, for a process, a block, or a piece of code."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import SynchronousOnlyOperation
from django.test import override_settings

import async_guard
from async_guard.guard import guard
from async_guard.problem import Problems
from async_guard.testing import capture_hits
from tests.conftest import the_originals
from tests.delivery.process import Project, read_events, total
from tests.delivery.urls import swallow

# --- install and uninstall -----------------------------------------------------------------------


def test_installing_twice_is_installing_once():
    """
    Two installs and one uninstall leave Django as it was, and every hit counts once.
    """
    before = the_originals()
    async_guard.install()
    patched = the_originals()
    async_guard.install()

    assert the_originals() == patched
    asyncio.run(swallow(2))
    async_guard.flush()
    assert async_guard.totals() == {"swallowed": 2}

    async_guard.uninstall()
    async_guard.uninstall()
    assert the_originals() == before
    assert patched != before


def test_concurrent_installs():
    """
    Threads that install at the same time install once; so it is with uninstalling.
    """
    before = the_originals()
    for _ in range(10):
        barrier = threading.Barrier(4)

        def both(barrier=barrier):
            barrier.wait()
            async_guard.install()
            barrier.wait()
            async_guard.uninstall()

        threads = [threading.Thread(target=both) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not async_guard.installed()
        assert the_originals() == before


def test_guarded_is_as_before_after_the_block():
    """
    A block within a block ends with the outer one still watched; an error ends it, too.
    """
    with async_guard.guarded():
        with pytest.raises(ZeroDivisionError), async_guard.guarded():
            assert async_guard.installed()
            raise ZeroDivisionError
        assert async_guard.installed()
        asyncio.run(swallow())
        async_guard.flush()
        assert async_guard.totals() == {"swallowed": 1}

    assert not async_guard.installed()


def test_guarded_leaves_an_installed_guard():
    """
    Where the process is watched anyway, a guarded block changes nothing.
    """
    async_guard.install()
    try:
        with async_guard.guarded():
            pass
        assert async_guard.installed()
    finally:
        async_guard.uninstall()


def test_guarded_blocks_that_overlap():
    """
    Of two threads that watch, the one that ends first does not end it for the other.
    """
    entered, left = threading.Event(), threading.Event()
    found = []

    def second():
        with async_guard.guarded():
            entered.set()
            left.wait(5)
            found.append(async_guard.installed())

    thread = threading.Thread(target=second)
    with async_guard.guarded():
        thread.start()
        assert entered.wait(5)
    left.set()
    thread.join()

    assert found == [True]
    assert not async_guard.installed()


def test_counts_begin_anew_with_every_install():
    """
    What was counted before an uninstall is not counted again.
    """
    for _ in range(2):
        with async_guard.guarded():
            asyncio.run(swallow(3))
            async_guard.flush()
            assert async_guard.totals() == {"swallowed": 3}


def test_uninstall_writes_what_was_noticed(tmp_path):
    """
    Uninstalling writes everything, without a flush() before it.
    """
    path = tmp_path / "hits.jsonl"
    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        asyncio.run(swallow(50))

    assert total(read_events(path)) == 50


def test_error_that_outlives_the_guard():
    """
    An exception from a guarded block may die after it.
    """

    async def hold():
        try:
            list(Group.objects.all())
        except Exception as error:
            return error

    with capture_hits() as hits:
        error = asyncio.run(hold())
    del error

    assert len(hits) == 1


# --- looking away --------------------------------------------------------------------------------


def test_allow_unsafe_looks_away():
    """
    In the block Django refuses as ever, and nothing is noticed; after it everything is.
    """

    async def main():
        with async_guard.allow_unsafe():
            with pytest.raises(SynchronousOnlyOperation):
                list(Group.objects.all())
            with async_guard.allow_unsafe():
                await swallow()
            await swallow()
        await swallow(2)

    with capture_hits() as hits:
        asyncio.run(main())

    assert [hit.outcome for hit in hits] == ["swallowed"] * 2


def test_allow_unsafe_across_await_tasks_and_threads():
    """
    Looking away goes along into tasks and threads, and stays out of the tasks beside it.
    """
    order = []

    async def aside():
        order.append("aside")
        await swallow()

    def in_thread():
        asyncio.run(swallow())

    async def main():
        beside = asyncio.create_task(asyncio.sleep(0.01))
        beside.add_done_callback(lambda _: None)
        other = asyncio.create_task(aside())
        with async_guard.allow_unsafe():
            await asyncio.sleep(0)
            await swallow()
            await asyncio.create_task(swallow())
            await asyncio.gather(swallow(), swallow())
            await sync_to_async(in_thread)()
            await asyncio.to_thread(in_thread)
        await other
        await beside

    with capture_hits() as hits:
        asyncio.run(main())

    assert order == ["aside"]
    assert len(hits) == 1


def test_allow_unsafe_in_a_generator_closed_elsewhere():
    """
    A stream that looks away may be closed in another task than it was opened in.
    """

    async def stream():
        with async_guard.allow_unsafe():
            yield 1
            yield 2

    async def main():
        opened = stream()
        assert await asyncio.create_task(anext(opened)) == 1
        await asyncio.create_task(opened.aclose())
        await swallow()

    with capture_hits() as hits:
        asyncio.run(main())

    assert len(hits) == 1


def test_allow_unsafe_blocks_that_overlap():
    """
    Blocks of two tasks do not end each other's.
    """

    async def first(entered, leave):
        with async_guard.allow_unsafe():
            entered.set()
            await leave.wait()
            await swallow()

    async def main():
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(first(entered, leave))
        await entered.wait()
        with async_guard.allow_unsafe():
            leave.set()
        await swallow()
        await task

    with capture_hits() as hits:
        asyncio.run(main())

    assert len(hits) == 1


# --- loops, threads and the garbage collector ----------------------------------------------------


def test_several_loops_at_once(tmp_path):
    """
    Loops in several threads are watched at the same time, and every hit counts.
    """
    path = tmp_path / "hits.jsonl"
    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        threads = [threading.Thread(target=asyncio.run, args=(swallow(500),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        async_guard.flush()
        assert async_guard.totals() == {"swallowed": 2000}

    assert total(read_events(path)) == 2000


def test_hits_that_die_in_cycles(project: Project):
    """
    While the garbage collector runs all the time and hits die in it, nothing locks or is lost.
    """
    body = """
import faulthandler
faulthandler.dump_traceback_later(50, exit=True)

async def cyclic(times):
    for _ in range(times):
        try:
            list(Group.objects.all())
        except Exception as error:
            cycle = [error]
            cycle.append(cycle)

gc.set_threshold(1, 1, 1)
threads = [threading.Thread(target=asyncio.run, args=(cyclic(700),)) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    async_guard.flush()
gc.collect()
assert async_guard.flush()
print(sum(async_guard.totals().values()), len(guard._pending._pending))
"""

    run = project.run(body)

    assert run.out == "2100 0\n"
    assert total(project.events()) == 2100


def test_finaliser_that_hits_while_a_thread_is_started(project: Project):
    """
    A finaliser of the project's that hits just when the first thread is started locks nothing.
    """
    body = """
import faulthandler
faulthandler.dump_traceback_later(10, exit=True)

class Nasty:
    def __init__(self):
        self.me = self

    def __del__(self):
        try:
            list(Group.objects.all())
        except Exception:
            pass

def collect_in_between(frame, event, arg):
    if event == "call" and frame.f_code is threading.Thread.__init__.__code__:
        gc.collect()

async def main():
    gc.disable()
    Nasty()
    sys.setprofile(collect_in_between)
    await swallow()
    sys.setprofile(None)

asyncio.run(main())
assert async_guard.flush()
print(sum(async_guard.totals().values()))
"""

    assert int(project.run(body).out) >= 1


def test_errors_of_ours_are_told_once_and_break_nothing(monkeypatch, caplog):
    """
    If a hit cannot be described, the code that is watched goes on, and the log says so once.
    """

    class Broken(Exception):
        pass

    def broken(*args):
        raise Broken

    async def main():
        with pytest.raises(SynchronousOnlyOperation):
            list(Group.objects.all())
        await swallow(3)

    monkeypatch.setattr(guard, "_failed", False)
    monkeypatch.setattr(Problems, "of", broken)
    with async_guard.guarded():
        asyncio.run(main())

    told = [each for each in caplog.records if "could not describe" in each.getMessage()]
    assert len(told) == 1
