"""``flush()`` and the ``Writer`` below it: when it returns, what was noticed is written."""

import asyncio
import contextvars
import json
import threading
import time
import weakref

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.test import override_settings

import async_guard
from async_guard.writer import Writer
from tests.delivery.process import read_events, total
from tests.delivery.urls import swallow


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hits.jsonl"


def watched(path, **more):
    return override_settings(ASYNC_GUARD={"LOG_FILE": path, **more})


def soon():
    return time.monotonic() + 5


def put(writer, call, *args):
    return writer.put(call, *args, context=contextvars.Context())


def test_before_install():
    """
    Without a guard there is nothing to wait for.
    """
    assert not async_guard.installed()
    assert async_guard.flush() is True


def test_nothing_noticed(path):
    """
    Nothing noticed, nothing written, no thread started.
    """
    with watched(path), async_guard.guarded():
        assert async_guard.flush(0) is True
        assert "async_guard" not in {thread.name for thread in threading.enumerate()}

    assert not path.exists()


def test_inside_a_running_loop(path):
    """
    Called on the loop it returns with everything written, and is no hit itself.
    """

    async def main():
        await swallow(7)
        assert async_guard.flush()
        return total(read_events(path))

    with watched(path), async_guard.guarded():
        assert asyncio.run(main()) == 7
        assert async_guard.totals() == {"swallowed": 7}


def test_error_still_alive(path):
    """
    A hit whose exception somebody still holds is written, once.
    """
    held = []

    async def hold():
        try:
            list(Group.objects.all())
        except Exception as error:
            held.append(error)

    with watched(path), async_guard.guarded():
        asyncio.run(hold())
        assert async_guard.flush()
        written = total(read_events(path))
        held.clear()

    assert (written, total(read_events(path))) == (1, 1)


SOURCE = """
async def swallow_{0}(model, times):
    for _ in range(times):
        try:
            list(model.objects.all())
        except Exception:
            pass
"""


def generated(folder, number):
    scope = {"__name__": f"generated_{number}"}
    exec(compile(SOURCE.format(number), str(folder / f"generated_{number}.py"), "exec"), scope)
    return scope[f"swallow_{number}"]


@pytest.mark.usefixtures("hectic")
@pytest.mark.parametrize("burst, rounds", [(1, 60), (10_000, 20)], ids=["counted", "in full"])
def test_several_threads(path, tmp_path, burst, rounds):
    """
    In every thread flush() returns when what that thread noticed is written.
    """
    missing = []

    def work(number):
        function = generated(tmp_path, number)
        for done in range(1, rounds + 1):
            asyncio.run(function(Group, 3))
            assert async_guard.flush()
            lines = path.read_text().splitlines()
            mine = [json.loads(line) for line in lines if f"swallow_{number}" in line]
            if total(mine) != 3 * done:
                missing.append((number, done, total(mine)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    with watched(path, BURST=burst, SUMMARY_INTERVAL_S=0.1), async_guard.guarded():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(async_guard.totals().values()) == 3 * 3 * rounds

    assert missing == []
    assert total(read_events(path)) == 3 * 3 * rounds


def test_totals_are_exact_while_others_flush(path):
    """
    Flushing in one thread takes no hit away from the loops of others.
    """
    over = threading.Event()

    def flush():
        while not over.is_set():
            async_guard.flush()

    with watched(path), async_guard.guarded():
        flusher = threading.Thread(target=flush)
        threads = [threading.Thread(target=asyncio.run, args=(swallow(3000),)) for _ in range(3)]
        for thread in [flusher, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        flusher.join()
        async_guard.flush()
        totals = async_guard.totals()

    assert sum(totals.values()) == 9000
    assert total(read_events(path)) == 9000


def test_flush_between_two_refusals_of_asgiref(path):
    """
    A hit that was settled by flush() takes no later one with it when the loop turns.
    """

    async def nothing():
        pass

    def refused():
        try:
            async_to_sync(nothing)()
        except RuntimeError:
            pass

    async def main():
        for _ in range(20):
            refused()
            async_guard.flush()
            refused()
            await asyncio.sleep(0)

    with watched(path), async_guard.guarded():
        asyncio.run(main())
        async_guard.flush()
        totals = async_guard.totals()

    assert sum(totals.values()) == 40


# --- the thread and its queue --------------------------------------------------------------------


def test_writer_does_things_in_order():
    """
    What was put is done in order, in one thread.
    """
    done, threads = [], set()

    def note(number):
        done.append(number)
        threads.add(threading.current_thread().name)

    writer = Writer(None, most=10_000)
    for number in range(100):
        put(writer, note, number)
    writer.start()
    for number in range(100, 200):
        put(writer, note, number)

    assert writer.flush(soon())
    writer.stop(soon())
    assert (done, threads) == (list(range(200)), {"async_guard"})


def test_writer_keeps_nothing():
    """
    What is done is forgotten: a request does not stay in memory until the next hit.
    """

    class Thing:
        pass

    kept = contextvars.ContextVar("kept")
    context, thing = contextvars.Context(), Thing()
    context.run(kept.set, thing)
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    writer = Writer(None, most=10)
    writer.start()

    assert writer.put(str, context=context)
    del context, thing

    assert gone.wait(5)
    writer.stop(soon())


def test_writer_without_a_thread():
    """
    Where no thread can be started, flushing does the work.
    """
    done = []
    writer = Writer(None, most=10)
    put(writer, done.append, 1)

    assert writer.flush(soon())

    assert done == [1]


def test_writer_is_bounded():
    """
    A full queue refuses, and what is in it is done.
    """
    done = []
    writer = Writer(None, most=2)

    taken = [put(writer, done.append, number) for number in range(3)]
    writer.flush(soon())

    assert (taken, done) == ([True, True, False], [0, 1])


def test_writer_goes_on_after_errors():
    """
    A call that raises ends neither the thread nor the work after it; the first is told.
    """
    told, done = [], []
    writer = Writer("sink", most=10, failed=lambda sink, error: told.append((sink, repr(error))))
    writer.start()
    for number in range(3):
        put(writer, int, "x")
        put(writer, done.append, number)

    assert writer.flush(soon())
    writer.stop(soon())

    assert done == [0, 1, 2]
    assert told == [("sink", """ValueError("invalid literal for int() with base 10: 'x'")""")]


def test_writer_goes_on_when_telling_of_an_error_fails():
    """
    The thread outlives an error in what tells of errors.
    """
    done = []

    def failed(sink, error):
        raise RuntimeError("cannot even say so")

    writer = Writer("sink", most=10, failed=failed)
    writer.start()
    put(writer, int, "x")
    put(writer, done.append, 1)

    assert writer.flush(soon())
    alive = writer._thread is not None and writer._thread.is_alive()
    writer.stop(soon())
    assert (done, alive) == ([1], True)


def test_writer_ticks_while_idle_and_while_busy():
    """
    The tick comes at its interval, whether or not there is work.
    """
    ticks = []
    writer = Writer(None, most=100_000, tick=lambda: ticks.append(time.monotonic()), every=0.05)
    writer.start()
    time.sleep(0.3)
    idle = len(ticks)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        put(writer, time.sleep, 0.001)
        time.sleep(0.001)
    writer.flush(soon())
    writer.stop(soon())

    assert idle >= 3
    assert len(ticks) - idle >= 3


def test_writer_can_be_started_again():
    """
    After stop() it may be started once more.
    """
    done = []
    writer = Writer(None, most=10)
    for number in range(3):
        writer.start()
        put(writer, done.append, number)
        assert writer.flush(soon())
        writer.stop(soon())

    assert done == [0, 1, 2]
