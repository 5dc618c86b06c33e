"""Operations that nobody ends: streams that are left, and what only the collector closes."""

import asyncio
import gc
import subprocess
import sys

import pytest

from async_guard import origin
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.catalogue import build
from tests.integrations.driving import in_task

pytestmark = pytest.mark.asyncio

REFUSE = """
import asyncio, gc, logging
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["async_guard"],
    ASYNC_GUARD={"ENABLED": True},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
logging.disable(logging.CRITICAL)

import strawberry
from asgiref.sync import sync_to_async
from strawberry.extensions import SchemaExtension
from async_guard.integrations.strawberry import AsyncGuardExtension

class NeedsLoop(SchemaExtension):
    async def on_operation(self):
        yield

@strawberry.type
class Query:
    hello: str = "hello"

schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension, NeedsLoop])

def refuse():
    return len(schema.execute_sync("{ hello }").errors)

async def main():
    gc.set_threshold(20)  # in the middle of whatever allocates, also of setting a ContextVar
    print(sum([await sync_to_async(refuse)() for _ in range(1000)]))

asyncio.run(main())
"""


async def test_closed_by_the_collector():
    """
    Strawberry leaves an operation that another extension refuses to the collector, which may
    close it in the middle of anything: that must not break the interpreter.
    """
    command = [sys.executable, "-X", "faulthandler", "-c", REFUSE]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "1000\n"), done.stderr


async def closed(stream):
    await anext(stream)
    await stream.aclose()


async def dropped(stream):
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0.01)  # the loop closes it


async def closed_elsewhere(stream):
    await asyncio.create_task(anext(stream))
    await asyncio.create_task(stream.aclose())


async def cancelled(stream):
    await anext(stream)
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("leave", [closed, dropped, closed_elsewhere, cancelled])
@pytest.mark.parametrize(
    ("field", "outcome"),
    [("newFilms { directorName }", "raised"), ("newNamesOrNothing", "swallowed")],
    ids=["raised", "swallowed"],
)
async def test_stream(leave, field, outcome, films):
    """
    A subscription that is left before its end tells of its hits, and leaves no origin behind.
    """
    schema = build(AsyncGuardExtension)
    left = []

    async def work():
        await leave(await schema.subscribe(f"subscription S {{ {field} }}"))
        left.append(origin.current.get())

    with capture_hits() as hits:
        await in_task(work())

    assert left == [None]
    assert {(hit.operation_name, hit.outcome) for hit in hits} == {("S", outcome)}
