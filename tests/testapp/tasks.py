"""Coroutines that no request runs: background work and the event loop's own callbacks."""

import asyncio
import gc

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.db.transaction import Atomic
from rest_framework_simplejwt.tokens import RefreshToken

from tests.testapp.models import Film, LogEntry, Studio


async def issue_token():
    user = await User.objects.aget(username="ada")
    return str(RefreshToken.for_user(user))  # <- the access [issue_token]


async def count_in_session():
    async def session():
        yield Film.objects

    async with session() as films:  # <- the access [count_in_session]
        return await films.acount()


async def count_in_thread():
    async def count():
        return await Film.objects.acount()

    return await sync_to_async(count)()  # <- the access [count_in_thread]


async def count_later():
    counts = []

    def count():
        counts.append(Film.objects.count())  # <- the access [count_later]

    asyncio.get_running_loop().call_later(0.01, count)
    await asyncio.sleep(0.05)
    return counts


async def count_soon():
    counts = []

    def count():
        counts.append(Film.objects.count())  # <- the access [count_soon]

    asyncio.get_running_loop().call_soon(count)
    await asyncio.sleep(0.01)
    return counts


async def count_when_done():
    counts = []

    def count(task):
        counts.append(Film.objects.count())  # <- the access [count_when_done]

    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(count)
    await asyncio.sleep(0.01)
    return counts


async def five_at_once():
    films = Film.objects.order_by("pk")
    queries = [films.afirst() for _ in range(5)]
    return len(await asyncio.gather(*queries))  # <- the access [five_at_once]


class AsyncAtomic(Atomic):
    """The wrapper that everyone writes once: all tasks share one connection."""

    def __init__(self):
        super().__init__(None, True, False)

    async def __aenter__(self):
        await sync_to_async(super().__enter__)()

    async def __aexit__(self, *exc_info):
        await sync_to_async(super().__exit__)(*exc_info)


async def interleaved_transactions():
    async def fails():
        async with AsyncAtomic():  # <- the access [interleaved_transactions]
            await LogEntry.objects.acreate(text="a")
            await asyncio.sleep(0.1)
            raise ValueError("take a back")

    async def succeeds():
        await asyncio.sleep(0.03)
        async with AsyncAtomic():
            await LogEntry.objects.acreate(text="b")

    await asyncio.gather(fails(), succeeds(), return_exceptions=True)
    return [entry.text async for entry in LogEntry.objects.order_by("pk")]


async def first_director_in_thread():
    def work():
        try:
            return Film.objects.order_by("pk").first().director.name
        finally:
            connection.close()

    return await asyncio.to_thread(work)


async def _director_of(title):
    film = await Film.objects.aget(title=title)
    return film.director.name  # <- the access [director_of]


async def director_after_prefetch():
    film = await Film.objects.prefetch_related("genres").aget(title="Stalker")
    return film.director.name  # <- the access [director_after_prefetch]


async def director_in_task():
    return await asyncio.create_task(_director_of("Stalker"))


async def director_in_forgotten_task():
    task = asyncio.create_task(_director_of("Stalker"))
    await asyncio.sleep(0.1)
    del task
    gc.collect()
    return "done"


async def directors_that_work():
    names = await asyncio.gather(_director_of("Stalker"), return_exceptions=True)
    return [name for name in names if isinstance(name, str)]


async def director_in_task_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(_director_of("Stalker"))


async def director_if_group_succeeds():
    try:
        await director_in_task_group()
    except* Exception:
        pass
    return "done"


async def save_without_await():
    Studio(name="Ealing").asave()  # <- the access [save_without_await]
    gc.collect()
    return await Studio.objects.filter(name="Ealing").acount()


async def directors_in_thread():
    def names():
        films = Film.objects.order_by("pk")
        return [film.director.name for film in films]  # <- the access [directors_in_thread]

    return await sync_to_async(names)()
