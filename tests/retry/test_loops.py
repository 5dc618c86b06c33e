"""Resume under another event loop, and with a pool of connections."""

import asyncio
import os
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from async_guard import guarded, retrying
from tests.testapp.models import Director

pytestmark = pytest.mark.django_db(transaction=True)


@guarded
async def write_and_read():
    with transaction.atomic():
        Director.objects.create(name="Tati")
    first, second = await asyncio.gather(*(asyncio.create_task(count()) for _ in range(2)))
    return first, second, Director.objects.get(name="Tati").name


async def count():
    return Director.objects.count()


def test_uvloop():
    """
    uvloop's loop and tasks are driven as asyncio's are.
    """
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    found = []

    def run():
        found.append(uvloop.run(write_and_read()))

    with retrying("resume"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    assert found == [(1, 1, "Tati")]


@pytest.mark.postgres
@pytest.mark.skipif(
    os.environ.get("ASYNC_GUARD_TEST_DB") != "postgres", reason="pools are PostgreSQL's"
)
@pytest.mark.asyncio
async def test_pool():
    """
    Connections of a psycopg pool go back to it, outside of any transaction.
    """
    await sync_to_async(connections.close_all)()
    connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 2}
    try:
        with retrying("resume"):
            for _ in range(5):  # more than the pool has
                assert (await write_and_read())[2] == "Tati"
                await sync_to_async(Director.objects.all().delete)()
                await sync_to_async(connections.close_all)()
    finally:
        await sync_to_async(connection.close_pool)()
        del connections.settings["default"]["OPTIONS"]["pool"]
        await sync_to_async(connections.close_all)()
