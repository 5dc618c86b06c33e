"""Streams, closing and cancelling under resume: the ways that a call ends without its result."""

import asyncio
import time
from itertools import islice

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction

import async_guard
from async_guard import guarded
from async_guard.retry import flow
from async_guard.retry.resume import Driven
from async_guard.testing import capture_hits
from tests.retry.threads import left_since, workers
from tests.testapp.models import Director
from tests.zoo.case import asgi

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


def names():
    return sorted(Director.objects.values_list("name", flat=True))


async def test_values_and_errors_sent_into_a_stream(film, resume):
    """
    A guarded stream gets what is sent and thrown into it, and asks the database in between.
    """

    @guarded
    async def feed():
        sent = yield names()
        try:
            yield [*names(), sent]
        except ValueError as error:
            yield [*names(), str(error)]

    stream = feed()

    assert await anext(stream) == ["Tarkovsky"]
    assert await stream.asend("sent") == ["Tarkovsky", "sent"]
    assert await stream.athrow(ValueError("thrown")) == ["Tarkovsky", "thrown"]
    await stream.aclose()


async def test_stream_of_a_request(film, resume):
    """
    The rows of a streaming response belong to its request, though the middleware has ended.
    """
    with capture_hits() as hits:
        sent = await asgi("/export/")()

    assert sent == [200, b"title,director\n", b"Stalker,Tarkovsky\n"]
    assert [(hit.relation, hit.outcome, hit.task, *request_of(hit)) for hit in hits] == [
        (
            "testapp.Film.director",
            "retried",
            None,
            "GET",
            "export/",
            "tests.testapp.views:export",
        )
    ]


def request_of(hit):
    return hit.http_method, hit.http_route, hit.view


async def test_block_around_the_rows_of_a_stream(film, resume):
    """
    A block that a stream holds across its rows keeps nobody else from the connection afterwards.
    """

    @guarded
    async def stream():
        with transaction.atomic():
            for name in Director.objects.values_list("name", flat=True):
                yield name

    @guarded
    async def beside():
        return Director.objects.count()

    async with ThreadSensitiveContext():  # so both share a connection
        rows = [row async for row in stream()]
        found = await beside()
        await sync_to_async(connections.close_all)()  # as Django does it

    assert (rows, found) == (["Tarkovsky"], 1)


async def test_stream_that_nobody_reads_on(film, resume):
    """
    A stream that is dropped in the middle of a block is closed as any, and its block rolled back.
    """

    @guarded
    async def stream():
        with transaction.atomic():
            Director.objects.update(name="Tati")
            yield

    before = workers()
    async for _ in stream():
        break

    assert await left_since(before) == set()
    assert [each.name async for each in Director.objects.all()] == ["Tarkovsky"]


async def test_stream_that_breaks(film, resume):
    """
    A stream that ends with an exception leaves no thread behind.
    """

    @guarded
    async def stream():
        yield names()
        raise LookupError

    before = workers()
    broken = stream()
    await anext(broken)
    with pytest.raises(LookupError):
        await anext(broken)

    assert await left_since(before) == set()


async def test_stream_inside_of_a_guarded_call(film, resume):
    """
    A guarded stream that is read in a guarded call joins it, with its transaction.
    """

    @guarded
    async def feed():
        for name in names():
            yield name, connection.in_atomic_block

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="Tati")
            return [each async for each in feed()]

    assert await work() == [("Tarkovsky", True), ("Tati", True)]


async def test_closing_before_a_transaction_opens(film, resume):
    """
    A coroutine that is closed while its transaction waits for the worker never opens it.
    """
    state = []

    @guarded
    async def outer():
        names()
        busy = asyncio.create_task(sync_to_async(time.sleep)(0.2))
        await asyncio.sleep(0)
        coro = Driven(_in_a_transaction(), flow.current.get())
        coro.send(None)  # it waits behind the other
        coro.close()
        await busy
        state.append(connection.in_atomic_block)

    await outer()

    assert state == [False]
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def test_closing_while_a_transaction_opens_slowly(film, resume):
    """
    A coroutine that is closed while the worker opens its transaction waits for it, and ends it.
    """
    if connection.vendor != "sqlite":
        pytest.skip("others open a transaction with its first statement")
    state = []

    def slowly(execute, *args):
        time.sleep(0.2)
        return execute(*args)

    @guarded
    async def outer():
        names()
        with connection.execute_wrapper(slowly):
            coro = Driven(_in_a_transaction(), flow.current.get())
            coro.send(None)
            time.sleep(0.1)  # the worker is in the middle of it
            coro.close()
        state.append(connection.in_atomic_block)

    await outer()

    assert state == [False]
    assert await sync_to_async(names)() == ["Tarkovsky"]


async def _in_a_transaction():
    with transaction.atomic():
        Director.objects.create(name="one")


async def test_cancelled_twice(film, resume):
    """
    A task that is cancelled again while its statement runs ends when the statement has.
    """
    if connection.vendor != "sqlite":
        pytest.skip("the function is SQLite's")
    ended = []

    @guarded
    async def slow():
        with connection.cursor() as cursor:
            connection.connection.create_function("nap", 1, lambda s: ended.append(time.sleep(s)))
            cursor.execute("select nap(0.3)")

    task = asyncio.create_task(slow())
    await asyncio.sleep(0.1)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.02)
    await asyncio.wait([task])

    assert task.cancelled()
    assert ended == [None]


async def test_error_that_is_thrown_by_its_class(film, resume):
    """
    A coroutine may be thrown a class, with a value and without, as a plain one may.
    """

    async def work():
        try:
            await asyncio.sleep(60)
        except ValueError as error:
            return [*names(), *error.args]

    @guarded
    async def thrown(*given):
        coro = work()
        coro = Driven(coro, flow.current.get())
        coro.send(None)
        return await _to_its_end(coro, *given)

    assert await thrown(ValueError) == ["Tarkovsky"]
    assert await thrown(ValueError, "why") == ["Tarkovsky", "why"]


async def _to_its_end(coro, *given):
    """Throw into a coroutine, then drive it as a task does."""
    try:
        future = coro.throw(*given)
        while True:
            future._asyncio_future_blocking = False
            await asyncio.wait([future])
            future = coro.send(None)
    except StopIteration as ended:
        return ended.value


async def test_coroutine_that_does_not_close(film, resume):
    """
    A coroutine that goes on waiting when it is closed is an error, as without us.
    """

    async def stubborn():
        while True:
            try:
                names()
            except GeneratorExit:
                await asyncio.sleep(0)

    @guarded
    async def work():
        coro = Driven(stubborn(), flow.current.get())
        coro.send(None)
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coro.close()

    await work()


async def test_cursor(film, resume):
    """
    A cursor sends many rows, and a partly read iterator lets go of its own.
    """

    @guarded
    async def work():
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into testapp_director (name) values (%s)", [("Tati",), ("Varda",)]
            )
        rows = Director.objects.order_by("name").iterator(1)
        first = next(rows).name
        rows.close()
        return first, names()

    assert await work() == ("Tarkovsky", ["Tarkovsky", "Tati", "Varda"])


NUMBERS = (
    "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 250)"
    " select n from numbers"
)


def read_by_turns() -> list:
    """Iterate over a cursor, stop, fetch, and go on; then over what another statement gives."""
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS)
        rows = iter(cursor)  # kept, or else SQLite's cursor is closed with it
        read = [next(rows), cursor.fetchone(), *cursor.fetchmany(2)]
        read += islice(rows, 90)
        read += cursor.fetchmany(20)
        cursor.arraysize = 3
        read += cursor.fetchmany()
        read += islice(rows, 2)
        read += cursor.fetchall()
        read += [cursor.fetchone(), *rows, *cursor.fetchmany(size=2), *cursor.fetchall()]
        cursor.execute(NUMBERS)
        rows = iter(cursor)
        read.append(next(rows))
        cursor.execute("select 42")
        return [*read, *cursor]


async def test_cursor_by_turns(resume):
    """
    Who iterates over a cursor, stops and fetches gets each row once, as in a plain thread.
    """

    @guarded
    async def work():
        return read_by_turns()

    read = await work()

    assert read == await sync_to_async(read_by_turns)()
    assert read[:4] == [(1,), (2,), (3,), (4,)]
    assert read[-3:] == [None, (1,), (42,)]


async def test_no_such_mode():
    """
    A mode that there is not is refused, and nothing is turned.
    """
    with (
        pytest.raises(ImproperlyConfigured, match="not 'sometimes'"),
        async_guard.retrying("sometimes"),
    ):
        pass

    assert not async_guard.installed()
