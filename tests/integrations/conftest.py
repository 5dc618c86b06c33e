"""Films to ask for, and a count of the queries that a block makes."""

import logging

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connection, connections

from tests.testapp import models


@pytest_asyncio.fixture
async def films(transactional_db):
    """Three films of three directors, two genres each; at the end no thread keeps a connection."""
    await sync_to_async(create_films)()
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture(autouse=True)
def unlogged():
    """Nobody logs errors: pytest's log handler would keep them, and they end with the test."""
    loggers = [logging.getLogger(name) for name in ("strawberry.execution", "django.request")]
    for logger in loggers:
        logger.disabled = True
    yield
    for logger in loggers:
        logger.disabled = False


def create_films():
    strand = models.Strand.objects.create(name="Soviet")
    for title, director in (("Stalker", "Tarkovsky"), ("Playtime", "Tati"), ("M", "Lang")):
        film = models.Film.objects.create(
            title=title,
            strand=strand,
            director=models.Director.objects.create(
                name=director, studio=models.Studio.objects.create(name=f"{director}'s")
            ),
        )
        film.genres.create(name="Drama")
        film.genres.create(name=f"{director}esque")


@pytest_asyncio.fixture
async def queries(films):
    """The SQL of the worker thread that ``sync_to_async`` uses, as a list to look at and clear."""
    found = []

    def note(execute, sql, params, many, context):
        found.append(sql)
        return execute(sql, params, many, context)

    await sync_to_async(lambda: connection.execute_wrappers.append(note))()
    yield found
    await sync_to_async(lambda: connection.execute_wrappers.remove(note))()
