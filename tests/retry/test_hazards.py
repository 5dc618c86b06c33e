"""What could crash, wait for ever or be lost when a step is left in the middle of its code."""

import asyncio
import functools
import gc
import io
import logging
import time
import unittest

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models.expressions import RawSQL
from django.http import HttpResponse
from django.test import AsyncClient, TestCase, override_settings
from django.urls import path

import async_guard
from async_guard import guarded
from async_guard.retry.policy import is_failure
from async_guard.testing import capture_hits
from tests.retry.threads import left_since, workers
from tests.testapp.models import Director, Film, Strand

ROWS = "with recursive t(n) as (select 1 union all select n + 1 from t where n < 300000)"
SLOW = {
    "sqlite": f"({ROWS} select count(*) from t)",
    "postgresql": "(select 1 from pg_sleep(0.2))",
}
pytestmark = pytest.mark.django_db(transaction=True)


def names():
    with connection.cursor() as cursor:
        cursor.execute("select name from testapp_director")
        for (name,) in cursor:
            yield name


class Node:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self):
        self.itself = self
        self.names = names()
        next(self.names)


@pytest.mark.asyncio
async def test_collector_in_a_step(film, resume):
    """
    A finaliser that the collector calls does not wait for the worker, so the interpreter lives.
    """

    @guarded
    async def work():
        for _ in range(5):
            Node()
            gc.collect()
            await asyncio.sleep(0)
        return Director.objects.count()

    assert await asyncio.gather(*(work() for _ in range(3))) == [1, 1, 1]


class Logged:
    def __str__(self):
        return Director.objects.get().name


@pytest.mark.asyncio
async def test_lock_of_a_log_handler(film, resume):
    """
    Code that a handler calls under its lock may ask the database, and the worker may log meanwhile.
    """
    log, written = logging.getLogger("tests.hazards"), io.StringIO()
    handler = logging.StreamHandler(written)
    log.addHandler(handler)
    log.propagate = False

    def tell(execute, *args):
        log.error("query")
        return execute(*args)

    @guarded
    async def work():
        with connection.execute_wrapper(tell):
            log.error("%s", Logged())

    try:
        await asyncio.wait_for(work(), 5)
    finally:
        log.removeHandler(handler)

    assert written.getvalue() == "query\nTarkovsky\n"
    assert not handler.lock._is_owned()


class Cached:
    @functools.cached_property
    def count(self):
        return Director.objects.count()


@pytest.mark.asyncio
async def test_lock_of_a_cached_property(film, resume):
    """
    One of ``functools`` is asked in the worker and in a step at the same time.
    """

    def in_worker():
        time.sleep(0.05)
        return Cached().count

    @guarded
    async def work():
        async def in_step():
            return Cached().count

        return await asyncio.gather(sync_to_async(in_worker)(), in_step())

    assert await asyncio.wait_for(work(), 5) == [1, 1]


@pytest.mark.asyncio
async def test_task_that_is_cancelled_again_and_again(film, resume):
    """
    A block is rolled back also where the cancellation is repeated until the task has ended.
    """

    @guarded
    async def work():
        with transaction.atomic():
            Director.objects.create(name="Nobody")
            await asyncio.sleep(10)

    task, turns = asyncio.create_task(work()), 0
    await asyncio.sleep(0.1)
    ends = time.monotonic() + 5
    while not task.done() and time.monotonic() < ends:
        task.cancel()
        turns += 1
        await asyncio.sleep(0)

    assert task.cancelled()
    assert await Director.objects.acount() == 1


@pytest.mark.asyncio
async def test_other_threads_of_a_guarded_call(film, resume):
    """
    Code in another thread has that thread's connection, and the guarded call keeps its own.
    """

    async def count():
        return Director.objects.count()

    def in_thread():
        try:
            return async_to_sync(count)()
        finally:
            connections.close_all()

    @guarded
    async def work():
        apart = await sync_to_async(in_thread, thread_sensitive=False)()
        return apart, Director.objects.count()

    assert await work() == (1, 1)


@pytest.mark.asyncio
async def test_other_loop_in_a_thread(film, resume):
    """
    A guarded call in a loop of its own does not wait for the transaction of the one outside.
    """

    @guarded
    async def inner():
        await asyncio.sleep(0.02)
        return Director.objects.count()

    @guarded
    async def outer():
        Director.objects.count()
        task = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(inner())))
        with transaction.atomic():
            for _ in range(50):
                Director.objects.count()
        return await asyncio.wait_for(task, 5)

    before = workers()
    assert await outer() == 1
    assert await left_since(before) == set()


@pytest.mark.asyncio
async def test_wrappers_of_the_project(film, resume):
    """
    A wrapper around statements sees its own, whatever other tasks run meanwhile, and goes.
    """
    seen = []

    def note(execute, sql, *args):
        seen.append(sql.split()[0])
        return execute(sql, *args)

    @guarded
    async def work():
        Director.objects.count()

        async def slow():
            return list(Director.objects.annotate(took=RawSQL(SLOW[connection.vendor], [])))

        task = asyncio.create_task(slow())
        await asyncio.sleep(0.02)
        with connection.execute_wrapper(note):
            Director.objects.count()
            Director.objects.exists()
        await task
        return connection.execute_wrappers

    assert (await work(), seen) == ([], ["SELECT", "SELECT"])


def chain(error):
    found = []
    while error is not None:
        found.append(type(error).__name__)
        error = error.__context__
    return found


def write_twice():
    """Fail as the database fails, while another exception is handled."""
    try:
        raise KeyError("name")
    except KeyError:
        Film.objects.create(pk=Film.objects.get().pk, title="again")


def chain_of_write():
    try:
        write_twice()
    except IntegrityError as error:
        return chain(error)


@pytest.mark.asyncio
async def test_chain_of_exceptions(film, resume):
    """
    An exception leads to the same ones as in a thread, and to what is handled where it is raised.
    """

    @guarded
    async def work():
        return chain_of_write()

    @guarded
    async def fail():
        raise TypeError from KeyError()

    async def outer():
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            await fail()

    with pytest.raises(TypeError) as caught:
        await outer()

    assert await work() == await sync_to_async(chain_of_write)()
    assert chain(caught.value) == ["TypeError", "ZeroDivisionError"]


@pytest.mark.asyncio
async def test_call_that_never_began(film, resume):
    """
    A call whose task was cancelled while it waited for the worker is not told as retried.
    """

    @guarded
    async def work():
        Director.objects.count()
        busy = asyncio.create_task(sync_to_async(time.sleep)(0.2))
        await asyncio.sleep(0.02)

        async def victim():
            Director.objects.create(name="Nobody")

        task = asyncio.create_task(victim())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, busy, return_exceptions=True)

    with capture_hits() as hits:
        await work()

    told = [(hit.orm_operation, hit.outcome) for hit in hits]
    assert told == [("count", "retried"), ("create", "raised")]


class Counts(TestCase):
    __test__ = False

    async def test(self):
        @guarded
        async def work():
            with self.assertNumQueries(1):
                Strand.objects.count()

        await work()


def test_test_cases_of_django():
    """
    Queries are counted in each ``TestCase``, also in those after the first one.
    """
    found = []
    with async_guard.retrying("resume"):
        for _ in range(3):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(Counts).run(result)
            found.append([text.splitlines()[-1] for _, text in result.errors + result.failures])

    assert found == [[], [], []]


def synchronous(get_response):
    def middleware(request):
        return get_response(request)

    return middleware


async def view(request):
    return HttpResponse(str(Director.objects.count()))


urlpatterns = [path("", view)]


@pytest.mark.asyncio
@override_settings(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["async_guard.middleware.AsyncGuardMiddleware", f"{__name__}.synchronous"],
)
async def test_view_below_a_synchronous_middleware(film, resume):
    """
    An asynchronous view is resumed also where Django runs the middleware in a thread.
    """
    response = await AsyncClient().get("/")

    assert (response.status_code, response.content) == (200, b"1")


@pytest.mark.parametrize(("code", "expected"), [("55P03", False), ("57P01", True), (None, True)])
def test_locks_are_answers(code, expected):
    """
    That a row is locked is what the code asked for; that the server shuts down is a failure.
    """
    error = OperationalError()
    error.__cause__ = Exception()
    error.__cause__.sqlstate = code

    assert is_failure(error) is expected
