"""Synchronous database calls in asynchronous code wait for the worker, and nothing else changes."""

import asyncio
import contextvars
import gc
import sys
import threading
import time
import weakref
from collections.abc import Coroutine
from contextlib import nullcontext

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

import async_guard
from async_guard import guarded
from async_guard.retry import flow
from async_guard.retry.resume import Driven, Step
from async_guard.testing import capture_hits
from tests.retry.threads import left_since, workers
from tests.testapp.models import Director, Film, Genre, LogEntry

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


def in_block_at_the_end():
    """Tell whether this thread's connection is in a transaction, and close it."""
    try:
        return connection.in_atomic_block
    finally:
        connections.close_all()


def names():
    return sorted(Director.objects.values_list("name", flat=True))


async def test_a_query_waits_for_the_worker(film, resume):
    """
    A lazy relation in an async function gives its object, and is told as retried.
    """

    @guarded
    async def name():
        return film.director.name

    with capture_hits() as hits:
        assert await name() == "Tarkovsky"

    assert [(h.kind, h.relation, h.outcome, h.retry_strategy) for h in hits] == [
        ("sync_orm", "testapp.Film.director", "retried", "resume")
    ]


async def test_how_it_was_carried_out(film, resume):
    """
    Each retry tells its statements, and that it had the hop for itself.
    """

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.bulk_create([Director(name="a"), Director(name="b")])
            list(Film.objects.all())

    with capture_hits() as hits:
        await work()

    told = [(h.orm_operation, h.retry_queries, h.retry_hop_size, h.retry_batched) for h in hits]
    # SQLite's BEGIN is a statement, and a new connection to MariaDB sends some of its own
    assert told[0] in [("atomic", n, 1, False) for n in range(4)]
    assert told[-1] == ("iterate", 1, 1, False)
    assert all(h.retry_duration_ms > 0 for h in hits)


async def test_without_it_django_refuses(film):
    """
    Where nothing is retried, a guarded function is what it was.
    """

    @guarded
    async def name():
        return film.director.name

    with pytest.raises(SynchronousOnlyOperation):
        await name()


async def test_the_loop_goes_on(film, resume):
    """
    While a call waits for the worker, other tasks run.
    """
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    @guarded
    async def slow():
        with connection.cursor() as cursor:
            connection.connection.create_function("nap", 1, lambda s: time.sleep(s))
            cursor.execute("select nap(0.2)")

    if connection.vendor != "sqlite":
        pytest.skip("the function is SQLite's")
    ticker = asyncio.create_task(tick())
    await slow()
    ticker.cancel()
    assert len(ticks) > 10


async def test_all_that_the_orm_does(film, resume):
    """
    Reading, writing, relations, raw SQL and iteration work unmodified, each once.
    """

    @guarded
    async def work():
        director = Director.objects.create(name="Tati")
        assert Director.objects.get(pk=director.pk) == director
        assert Director.objects.filter(name="Tati").exists()
        assert Director.objects.count() == 2
        assert [each.name for each in Director.objects.order_by("name")] == ["Tarkovsky", "Tati"]
        assert [d.name for d in Director.objects.order_by("name").iterator(1)] == [
            "Tarkovsky",
            "Tati",
        ]
        assert Director.objects.get_or_create(name="Tati") == (director, False)
        film.genres.add(Genre.objects.create(name="Drama"))
        assert [genre.name for genre in film.genres.all()] == ["Drama"]
        film.genres.clear()
        assert Film.objects.filter(pk=film.pk).update(title="The Zone") == 1
        film.refresh_from_db()
        assert film.title == "The Zone"
        assert [d.name for d in Director.objects.raw("select * from testapp_director")]
        with connection.cursor() as cursor:
            cursor.execute("select name from testapp_director order by name")
            assert cursor.fetchone() == ("Tarkovsky",)
            assert list(cursor.fetchmany(5)) == [("Tati",)]
            cursor.execute("select 1")
            assert list(cursor) == [(1,)]
            assert cursor.rowcount in (-1, 1)
        director.delete()
        Director.objects.bulk_create([Director(name="a"), Director(name="b")])

    await work()
    assert await sync_to_async(names)() == ["Tarkovsky", "a", "b"]


async def test_transactions(film, resume):
    """
    An atomic block commits or rolls back as a whole; its hooks run once, after the commit.
    """
    hooks = []

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="kept")
            transaction.on_commit(lambda: hooks.append(connection.in_atomic_block))
            with pytest.raises(IntegrityError), transaction.atomic():
                Director.objects.create(name="inner")
                raise IntegrityError
            assert connection.in_atomic_block
            assert hooks == []
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Director.objects.create(name="lost")
            raise ZeroDivisionError
        assert not connection.in_atomic_block

    await work()
    assert hooks == [False]
    assert await sync_to_async(names)() == ["Tarkovsky", "kept"]


async def test_one_connection_and_transaction(film, resume):
    """
    Code in a thread, asynchronous ORM methods and resumed calls share one transaction.
    """
    seen = {}

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="Tati")
            seen["in a thread"] = await sync_to_async(names)()
            seen["async"] = await Director.objects.acount()
            seen["state"] = await sync_to_async(lambda: connection.in_atomic_block)()
            transaction.set_rollback(True)

    await work()
    assert seen == {"in a thread": ["Tarkovsky", "Tati"], "async": 2, "state": True}
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_two_requests_lose_nothing_of_each_other(film, resume):
    """
    The rollback of one guarded call takes nothing of another with it.
    """
    held, written = asyncio.Event(), asyncio.Event()

    @guarded
    async def rolls_back():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            held.set()
            await written.wait()
            raise ZeroDivisionError

    @guarded
    async def writes():
        await held.wait()
        Director.objects.create(name="Tati")
        written.set()

    await asyncio.gather(rolls_back(), writes())
    assert await sync_to_async(names)() == ["Tarkovsky", "Tati"]


async def test_a_transaction_across_an_await_is_told(film, resume):
    """
    Waiting for something else inside of a transaction is a hit of its own, once for each block.
    """

    @guarded
    async def work():
        with transaction.atomic():
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with capture_hits() as hits:
        await work()

    assert [(h.kind, h.outcome, h.text) for h in hits][1:] == [
        ("transaction_across_await", "allowed", "await asyncio.sleep(0)")
    ]


async def write(name):
    Director.objects.create(name=name)


async def write_in_block(name):
    with transaction.atomic():
        Director.objects.create(name=name)


@pytest.mark.parametrize(
    "write", [write, write_in_block, lambda name: Director.objects.acreate(name=name)]
)
async def test_tasks_beside_a_block(film, resume, write):
    """
    A block that awaits nothing is no other task's transaction: its rollback loses nothing of them.
    """

    async def rolls_back():
        with transaction.atomic():
            Director.objects.create(name="gone")
            raise ZeroDivisionError

    @guarded
    async def work():
        return await asyncio.gather(rolls_back(), write("Tati"), return_exceptions=True)

    with capture_hits() as hits:
        error, _ = await asyncio.wait_for(work(), 10)

    assert isinstance(error, ZeroDivisionError)
    assert await sync_to_async(names)() == ["Tarkovsky", "Tati"]
    assert {hit.kind for hit in hits} == {"sync_orm"}


async def test_a_block_that_does_not_begin(film, resume):
    """
    A block that Django does not let begin ends nothing that stands around it.
    """

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="Tati")
            with pytest.raises(RuntimeError), transaction.atomic(durable=True):
                pass
            assert connection.in_atomic_block
        return names()

    assert await work() == ["Tarkovsky", "Tati"]


async def test_async_to_sync_in_a_block(film, resume):
    """
    What the end of a block waits for does not wait for the block.
    """

    async def log():
        await sync_to_async(LogEntry.objects.create)(text="async")
        await asyncio.create_task(write("Tati"))

    @guarded
    async def work():
        with transaction.atomic():
            transaction.on_commit(async_to_sync(log))

    await asyncio.wait_for(work(), 10)
    assert await LogEntry.objects.acount() == 1
    assert await sync_to_async(names)() == ["Tarkovsky", "Tati"]


@pytest.mark.parametrize("turns", range(1, 12))
async def test_cancellation_beside_a_block(film, resume, turns):
    """
    Wherever tasks are cancelled that share a worker, no block is left open, and none waits.
    """

    async def held():
        with transaction.atomic():
            Director.objects.create(name="held")
            await asyncio.sleep(0.002)
            Director.objects.create(name="held")

    @guarded
    async def work():
        tasks = [asyncio.create_task(each) for each in (held(), write_in_block("b"), held())]
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return connection.in_atomic_block, Director.objects.filter(name="Tarkovsky").count()

    assert await asyncio.wait_for(work(), 10) == (False, 1)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_cancellation_at_every_point(film, resume, turns):
    """
    Wherever a task is cancelled, what it did is whole or gone, and the connection is usable.
    """

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="one")
            await asyncio.sleep(0)
            Director.objects.create(name="two")

    @guarded
    async def use():
        assert not connection.in_atomic_block
        return names()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    task.cancel()
    await asyncio.wait([task])

    assert await use() in (["Tarkovsky"], ["Tarkovsky", "one", "two"])


async def test_cancellation_in_one_worker(film, resume):
    """
    A cancelled atomic block is left in the worker, too, before anybody else uses it.
    """
    outcomes = set()

    @guarded
    async def request():
        async def work():
            with transaction.atomic():
                Director.objects.create(name="one")
                await asyncio.sleep(0)
                Director.objects.create(name="two")

        for turns in range(14):
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0.0004)
            task.cancel()
            await asyncio.wait([task])
            assert not connection.in_atomic_block
            outcomes.add(tuple(names()))
            Director.objects.exclude(name="Tarkovsky").delete()

    await request()
    assert outcomes <= {("Tarkovsky",), ("Tarkovsky", "one", "two")}


async def test_cancellation_while_a_transaction_opens(film, resume):
    """
    A task that is cancelled when the worker has just opened its transaction leaves none open.
    """
    state = []

    @guarded
    async def request():
        async def work():
            with transaction.atomic():
                Director.objects.create(name="one")

        names()
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        time.sleep(0.1)  # the worker is done, and the loop does not know yet
        task.cancel()
        await asyncio.wait([task])
        state.append((task.cancelled(), connection.in_atomic_block))

    await request()
    assert state == [(True, False)]
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_cancellation_before_a_transaction_ends(film, resume):
    """
    A task that is cancelled while the end of its transaction waits for the worker rolls back.
    """
    state = []

    @guarded
    async def request():
        async def work():
            with transaction.atomic():
                Director.objects.create(name="one")
                busy.append(asyncio.create_task(sync_to_async(time.sleep)(0.2)))
                await asyncio.sleep(0.05)  # the worker is busy with something else

        busy = []
        names()
        task = asyncio.create_task(work())
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.wait([task])
        state.append((task.cancelled(), connection.in_atomic_block))
        await asyncio.gather(*busy)

    await request()
    assert state == [(True, False)]
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_timeout(film, resume):
    """
    ``asyncio.timeout`` ends a block whose statement is longer, after the statement.
    """

    @guarded
    async def work():
        try:
            async with asyncio.timeout(0.01):
                with transaction.atomic():
                    Director.objects.create(name="one")
                    await asyncio.sleep(5)
        except TimeoutError:
            return connection.in_atomic_block, names()

    assert await work() == (False, ["Tarkovsky"])


async def test_database_errors_and_tracebacks(film, resume):
    """
    What the database raises is raised where the call is.
    """

    @guarded
    async def work():
        Director.objects.create(pk=film.director_id, name="twice")  # here

    with pytest.raises(IntegrityError) as caught:
        await work()
    lines = [str(entry.statement) for entry in caught.traceback]
    assert any("# here" in line or "twice" in line for line in lines)


async def test_generator_exit(film, resume):
    """
    A coroutine that is closed ends its transaction.
    """

    @guarded
    async def feed():
        with transaction.atomic():
            Director.objects.create(name="one")
            yield 1
            yield 2

    generator = feed()
    assert await anext(generator) == 1
    await generator.aclose()

    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_closing_a_coroutine(film, resume):
    """
    Closing it from outside, without a turn of the loop, ends its transaction as well.
    """
    waits = asyncio.Event()

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="one")
            waits.set()
            await asyncio.Event().wait()

    coro = work()
    task = asyncio.create_task(_driven_by_hand(coro, waits))
    await asyncio.wait_for(task, 10)

    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_closing_while_a_transaction_opens(film, resume):
    """
    A coroutine that is closed while the worker opens its transaction leaves none open.
    """
    state = []

    @guarded
    async def outer():
        async def work():
            with transaction.atomic():
                Director.objects.create(name="one")

        names()
        coro = Driven(work(), flow.current.get())
        coro.send(None)  # the worker has its hop
        time.sleep(0.1)  # and is done with it
        coro.close()
        state.append(connection.in_atomic_block)

    await outer()
    assert state == [False]
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def _driven_by_hand(coro, waits):
    """Do what a task does, but leave off where *waits* is set."""
    while not waits.is_set():
        future = coro.send(None)
        if waits.is_set():
            break
        if future is not None:
            future._asyncio_future_blocking = False
            await asyncio.wait([future])
    coro.close()


async def test_tasks_of_a_guarded_call(film, resume):
    """
    ``gather``, ``TaskGroup`` and tasks inside of a guarded call are guarded with it.
    """

    async def one(name):
        return Director.objects.create(name=name).name

    @guarded
    async def work():
        found = list(await asyncio.gather(one("a"), one("b")))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in "cd"]
        task = asyncio.create_task(one("e"), name="mine")
        assert task.get_name() == "mine"
        assert task.get_coro().__name__ == "one"
        return [*found, *(each.result() for each in tasks), await task]

    assert await work() == ["a", "b", "c", "d", "e"]


class Foreign(Coroutine):
    """A coroutine that is no function's, as those that Cython compiles."""

    def __init__(self, coro):
        self._coro = coro

    def __await__(self):
        return self._coro.__await__()

    def send(self, value):
        return self._coro.send(value)

    def throw(self, *error):
        return self._coro.throw(*error)


async def test_looks_of_a_task(resume):
    """
    A task of a guarded call shows its own coroutine to those who look, whatever kind that is.
    """
    names = ["__name__", "__qualname__", "cr_code", "cr_origin", "cr_await", "cr_running"]

    async def one():
        await asyncio.sleep(0)
        return 1

    @guarded
    async def work():
        coro = one()
        task, foreign = asyncio.create_task(coro), asyncio.create_task(Foreign(one()))
        shown = task.get_coro()
        assert [getattr(shown, name) for name in names] == [getattr(coro, name) for name in names]
        assert shown.cr_frame is coro.cr_frame
        assert (foreign.get_coro().__qualname__, hasattr(foreign.get_coro(), "cr_code")) == (
            "Foreign",
            False,
        )
        found = await asyncio.gather(task, foreign)
        shown.close()  # that it has ended is no error
        return found

    assert await work() == [1, 1]


async def test_nested_calls(film, resume):
    """
    A guarded call in another one joins it, with its transaction.
    """

    @guarded
    async def inner():
        return connection.in_atomic_block, names()

    @guarded
    async def outer():
        with transaction.atomic():
            Director.objects.create(name="Tati")
            return await inner()

    assert await outer() == (True, ["Tarkovsky", "Tati"])


async def test_async_to_sync_in_a_thread(film, resume):
    """
    ``async_to_sync`` inside of ``sync_to_async`` inside of a guarded call does not deadlock.
    """

    async def innermost():
        return names()

    def in_thread():
        return async_to_sync(innermost)(), names()

    @guarded
    async def work():
        return await sync_to_async(in_thread)()

    found = await asyncio.wait_for(work(), 10)
    assert found == (["Tarkovsky"], ["Tarkovsky"])


variable = contextvars.ContextVar("variable", default="unset")


async def test_contextvars(film, resume):
    """
    Contextvars are the task's own, before, inside and after a resumed call.
    """

    def execute(execute, *args):
        seen.append(variable.get())
        variable.set("by the worker")
        return execute(*args)

    seen = []

    @guarded
    async def work():
        variable.set("before")
        with connection.execute_wrapper(execute):
            names()
        seen.append(variable.get())
        await asyncio.sleep(0)
        variable.set("after")

    await work()
    assert seen[0] == "before"
    assert set(seen[1:]) == {"by the worker"}  # MariaDB is asked for its settings first
    assert variable.get() == "after"


async def test_current_task(film, resume):
    """
    ``asyncio.current_task()`` is the task that runs, also after a resumed call.
    """

    @guarded
    async def work():
        before = asyncio.current_task()
        names()
        return before is asyncio.current_task() is task

    task = asyncio.create_task(work())
    assert await task


async def test_sync_function(film, resume):
    """
    A synchronous function that is guarded gives an awaitable where a loop runs.
    """

    @guarded
    def name():
        return film.director.name

    assert await name() == "Tarkovsky"
    assert await sync_to_async(name)() == "Tarkovsky"


async def test_atomic_on_a_coroutine_function_stays_refused(film, resume):
    """
    ``@transaction.atomic`` on an ``async def`` would commit before its body ran: it is refused.
    """

    @transaction.atomic
    async def change():
        Director.objects.create(name="never")

    @guarded
    async def work():
        await change()

    with capture_hits() as hits, pytest.raises(SynchronousOnlyOperation):
        await work()
    assert [(h.access, h.outcome, h.rule) for h in hits] == [("transaction", "raised", "AG121")]


async def test_connections_of_the_flow_are_closed(film, resume):
    """
    A guarded call that had a thread of its own leaves no connection behind.
    """
    found = []

    @guarded
    async def work():
        names()
        found.append(connections["default"])
        assert found[0].connection is not None

    await work()
    assert found[0].connection is None


async def test_connections_of_a_cancelled_flow_are_closed(film, resume):
    """
    Neither does one that is cancelled while it waits for the thread to close them.
    """
    found = []

    @guarded
    async def work():
        names()
        found.append(connections["default"])
        nap = asyncio.create_task(sync_to_async(time.sleep)(0.1))
        await asyncio.sleep(0)
        return nap

    before = workers()
    task = asyncio.create_task(work())
    while not found:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])

    assert (task.cancelled(), await left_since(before)) == (True, set())
    assert found[0].connection is None


async def test_connections_of_a_flow_that_is_used_while_it_closes(film, resume):
    """
    What a task opens in the thread while its guarded call closes that is closed, too.
    """
    found = []

    async def later():
        await asyncio.sleep(0.02)
        return names()

    @guarded
    async def work():
        names()
        found.append(connections["default"])
        tasks = [asyncio.create_task(each) for each in (sync_to_async(time.sleep)(0.1), later())]
        await asyncio.sleep(0)
        return tasks

    before = workers()
    _, said = await asyncio.gather(*await work())

    assert (said, await left_since(before)) == (["Tarkovsky"], set())
    assert found[0].connection is None


async def test_foreign_factory(film):
    """
    The loop has its own task factory again when the retry is over.
    """
    loop = asyncio.get_running_loop()
    made = []

    def factory(loop, coro, **kwargs):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    try:
        with async_guard.retrying("resume"):

            @guarded
            async def work():
                await asyncio.create_task(asyncio.sleep(0))
                return names()

            assert await work() == ["Tarkovsky"]
        assert loop.get_task_factory() is factory
        assert made
    finally:
        loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with Python 3.12")
async def test_eager_tasks(film, resume):
    """
    Tasks that begin at once are resumed as others are.
    """
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)

    async def child():
        return names()

    @guarded
    async def work():
        return await asyncio.create_task(child())

    try:
        assert await work() == ["Tarkovsky"]
    finally:
        async_guard.retry.tasks.restore()
        loop.set_task_factory(None)


async def test_tracing_goes_on(film, resume):
    """
    A debugger's or coverage's trace function sees the lines after a resumed call.
    """
    seen = []

    @guarded
    async def work():
        names()
        return 1  # traced

    def trace(frame, event, arg):
        if frame.f_code.co_name == "work" and event == "line":
            seen.append(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    assert len(set(seen)) == 2


async def test_threads_end(film, resume):
    """
    The thread of a guarded call ends with it.
    """

    @guarded
    async def work():
        return names()

    before = threading.active_count()
    for _ in range(20):
        await work()
    assert threading.active_count() < before + 10


@pytest.mark.parametrize(
    "request_of", [nullcontext, ThreadSensitiveContext], ids=["own thread", "thread of a request"]
)
async def test_a_task_that_goes_on_takes_another_thread(film, resume, request_of):
    """
    A task that outlives its guarded call gets connections of the thread that it has then.
    """
    goes_on = threading.Event()
    found = []

    async def later():
        await asyncio.sleep(0.05)
        others = [threading.Thread(target=goes_on.wait) for _ in range(20)]
        for each in others:  # they take the number of the thread that has ended
            each.start()
        try:
            found.append(names())
            found.append([each.name async for each in Director.objects.all()])
            found.append(names())
        finally:
            goes_on.set()
            await sync_to_async(connections.close_all)()

    @guarded
    async def work():
        names()
        return asyncio.create_task(later())

    async with request_of():
        task = await work()
        await sync_to_async(connections.close_all)()  # as Django does it
    await task

    assert found == [["Tarkovsky"]] * 3


@pytest.mark.parametrize(
    ("request_of", "outcome", "written"),
    [
        (nullcontext, None, ["first", "second"]),
        (ThreadSensitiveContext, TransactionManagementError, []),
    ],
    ids=["own thread", "thread of a request"],
)
@pytest.mark.parametrize("writes_again", [True, False])
async def test_a_block_outlives_its_guarded_call(
    film, resume, request_of, outcome, written, writes_again
):
    """
    A block that is not over when its guarded call is, is whole or gone, and says so.
    """
    entered, goes_on = asyncio.Event(), asyncio.Event()
    left = []

    async def later():
        try:
            with transaction.atomic():
                LogEntry.objects.create(text="first")
                entered.set()
                await goes_on.wait()
                if writes_again:
                    LogEntry.objects.create(text="second")
        finally:
            left.append(await sync_to_async(in_block_at_the_end)())

    @guarded
    async def work():
        task = asyncio.create_task(later())
        await entered.wait()
        return task

    async with request_of():
        task = await work()
    goes_on.set()
    (error,) = await asyncio.gather(task, return_exceptions=True)

    found = [each.text async for each in LogEntry.objects.order_by("pk")]
    assert (error and type(error), found) == (outcome, written[: 1 + writes_again])
    assert left == [False]


async def test_turned_off_meanwhile(film):
    """
    Guarded calls that are under way when the retry is turned off leave nothing behind, either.
    """
    goes_on = asyncio.Event()

    async def later():
        with transaction.atomic():
            LogEntry.objects.create(text="whole")
            entered.set()
            await goes_on.wait()

    @guarded
    async def work():
        task = asyncio.create_task(later())
        await entered.wait()
        return task

    @guarded
    async def waits():
        names()
        await goes_on.wait()

    entered, before = asyncio.Event(), workers()
    with async_guard.retrying("resume"):
        other = asyncio.create_task(waits())
        task = await work()
    goes_on.set()
    await asyncio.gather(task, other)
    left = await left_since(before)

    assert [each.text async for each in LogEntry.objects.all()] == ["whole"]
    assert left == set()


async def test_a_task_outlives_its_guarded_call(film, resume):
    """
    A task that goes on after its guarded call is carried out, and leaves nothing of either.
    """
    tasks = []

    async def later():
        await asyncio.sleep(0.01)
        tasks.append((names(), weakref.ref(flow.current.get())))

    @guarded
    async def work():
        names()
        tasks.append(asyncio.create_task(later()))

    before = workers()
    await work()
    await tasks.pop(0)
    left = await left_since(before)  # a thread that is about to end has the flow in its context
    found, outlived = tasks.pop()
    async_guard.flush()
    gc.collect()

    assert (left, found, outlived()) == (set(), ["Tarkovsky"], None)
    assert not [each for each in gc.get_objects() if type(each) is Step and not each.dead]


async def test_a_block_that_nobody_ends(film, resume):
    """
    A block that is entered by hand and never left is rolled back, and leaves no thread.
    """

    @guarded
    async def work():
        transaction.atomic().__enter__()
        LogEntry.objects.create(text="lost")
        return workers() - before

    before = workers()
    during = await work()

    assert (len(during), await left_since(before)) == (1, set())
    assert [each.text async for each in LogEntry.objects.all()] == []
