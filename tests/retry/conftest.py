"""Retry tests write rows that other threads read: no test runs in a transaction."""

import gc

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connections

import async_guard
from tests.testapp.models import Director, Film


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No task, no step and no route outlives its test."""
    yield
    gc.collect()
    steps = [each for each in gc.get_objects() if type(each).__name__ == "Step"]
    assert [step for step in steps if not step.dead] == []
    assert len(async_guard.routes()) == 0


@pytest_asyncio.fixture
async def film(transactional_db):
    """A film with a director; at the end no thread keeps a connection."""
    made = await Film.objects.acreate(
        title="Stalker", director=await Director.objects.acreate(name="Tarkovsky")
    )
    yield await Film.objects.aget(pk=made.pk)
    await sync_to_async(connections.close_all)()


@pytest.fixture
def resume():
    with async_guard.retrying("resume"):
        yield


@pytest.fixture
def rerun():
    with async_guard.retrying("rerun"):
        yield
