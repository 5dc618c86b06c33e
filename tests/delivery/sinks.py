"""Sinks that a project may have, good ones and bad ones; ``SINKS`` names them."""

import asyncio
import threading
import time

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection, connections

import async_guard

RECEIVED = []
THREADS = set()
RESULTS = []
GO_ON = threading.Event()


def forget():
    RECEIVED.clear()
    THREADS.clear()
    RESULTS.clear()
    GO_ON.clear()


def good(hit):
    RECEIVED.append(hit)


def raising(hit):
    RECEIVED.append(hit)
    raise ValueError("the sink's own trouble")


def exiting(hit):
    RECEIVED.append(hit)
    raise SystemExit(3)


def cancelled(hit):
    RECEIVED.append(hit)
    raise asyncio.CancelledError


def blocking(hit):
    RECEIVED.append(hit)
    GO_ON.wait(30)


def slow(hit):
    time.sleep(0.05)
    RECEIVED.append(hit)


def counting_users(hit):
    RESULTS.append(User.objects.count())
    THREADS.add(threading.current_thread())


def left_open(hit):
    """Tell how many connections the sink before left open in this thread."""
    RESULTS.append(sum(each.connection is not None for each in connections.all()))
    User.objects.count()


class Broken:
    """A connection of a driver that fails when it is closed."""

    def close(self):
        raise OSError("connection reset by peer")


def broken_connection(hit):
    RECEIVED.append(hit)
    connection.ensure_connection()
    connection.connection.close()
    connection.connection = Broken()


def looping(hit):
    """Run a loop of its own, and use the database in it: on the loop, and in a thread."""

    async def work():
        try:
            RESULTS.append(list(Group.objects.all()))
        except Exception as error:
            RESULTS.append(type(error).__name__)
        RESULTS.append(await sync_to_async(read_permissions)())

    asyncio.run(work())


def read_permissions():
    """Read a relation once for every row."""
    return [len(group.permissions.all()) for group in Group.objects.all()]


def asynchronous(hit):
    """Store the hit as an asynchronous client would."""
    RECEIVED.append(hit)

    async def work():
        RESULTS.append(await sync_to_async(User.objects.count)())

    asyncio.run(work())


def flushing(hit):
    RESULTS.append(async_guard.flush(5))
    RECEIVED.append(hit)


def flushing_too(hit):
    RESULTS.append(async_guard.flush(5))
    RECEIVED.append(hit)
