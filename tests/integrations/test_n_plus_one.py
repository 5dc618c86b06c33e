"""Loads that repeat where no loop runs: one hit with the count, per operation."""

import asyncio

import django
import pytest
import pytest_asyncio
import strawberry
import strawberry_django
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import models as django_models
from django.test import override_settings
from strawberry.dataloader import DataLoader

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.driving import execute, get, in_task
from tests.testapp import models

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("shelf"),
    pytest.mark.urls("tests.integrations.urls"),
]
MANY = 8


@pytest_asyncio.fixture
async def shelf(films):
    """Eight films more, each with a note, a review and an own director."""
    await sync_to_async(create_shelf)()


def create_shelf():
    models.Film.objects.all().delete()
    models.Director.objects.all().delete()
    ContentType.objects.clear_cache()
    for number in range(MANY):
        director = models.Director.objects.create(name=f"director {number}")
        film = models.Film.objects.create(title=f"film {number}", director=director)
        film.genres.create(name=f"genre {number}")
        models.Note.objects.create(content_object=film, text="note")


def screen_shelf():
    room = models.Room.objects.create(name="room")
    for film in models.Film.objects.all():
        models.Screening.objects.create(film=film, room=room)


@strawberry_django.type(models.Director)
class Director:
    name: strawberry.auto


@strawberry_django.type(models.Film)
class Film:
    title: strawberry.auto
    director: Director

    @strawberry_django.field
    def director_name(self) -> str:
        return self.director.name

    @strawberry_django.field(select_related=["director"])
    def joined_name(self) -> str:
        return self.director.name

    @strawberry_django.field(prefetch_related=["genres"])
    def prefetched_genres(self) -> list[str]:
        return [genre.name for genre in self.genres.all()]

    @strawberry_django.field
    def genre_names(self) -> list[str]:
        return [genre.name for genre in self.genres.all()]


def names_of(films):
    return [film.director.name for film in films]


@strawberry.type
class Query:
    films: list[Film] = strawberry_django.field()

    @strawberry.field
    async def in_thread(self) -> list[str]:
        films = [film async for film in models.Film.objects.order_by("pk")]
        return await sync_to_async(names_of)(films)

    @strawberry.field
    async def one_by_one(self) -> list[str]:
        films = [film async for film in models.Film.objects.order_by("pk")]
        return [await sync_to_async(lambda film=film: film.director.name)() for film in films]

    @strawberry.field
    async def few(self, count: int) -> list[str]:
        films = [film async for film in models.Film.objects.order_by("pk")[:count]]
        return await sync_to_async(names_of)(films)

    @strawberry.field
    async def loaded(self, info: strawberry.Info) -> list[str]:
        loader = info.context["directors"]
        return await loader.load_many([key async for key in models.Film.objects.values_list("pk")])


plain_schema = strawberry.Schema(Query)
schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])


def told(hits):
    return [
        (hit.kind, hit.relation, hit.count, hit.graphql_field, hit.graphql_path) for hit in hits
    ]


async def test_resolver_of_strawberry_django():
    """
    A resolver that strawberry_django runs in threads, one per row, is one hit with the count.
    """
    with capture_hits() as hits:
        await execute(schema, "query Q { films { directorName } }")

    assert told(hits) == [
        ("n_plus_one", "testapp.Film.director", MANY, "Film.directorName", "films[].directorName")
    ]
    assert [(hit.outcome, hit.operation_name) for hit in hits] == [("allowed", "Q")]


async def test_default_field_of_strawberry_django():
    """
    So is an attribute that strawberry_django gets in threads; the field stands for the line.
    """
    with capture_hits() as hits:
        await execute(schema, "query Q { films { director { name } } }")

    assert told(hits) == [
        ("n_plus_one", "testapp.Film.director", MANY, "Film.director", "films[].director")
    ]
    assert [hit.on_stack for hit in hits] == [False]


async def test_alias():
    """
    The path has the alias, the field its name.
    """
    with capture_hits() as hits:
        await execute(schema, "{ all: films { boss: directorName } }")

    assert told(hits) == [
        ("n_plus_one", "testapp.Film.director", MANY, "Film.directorName", "all[].boss")
    ]


@pytest.mark.parametrize("field", ["inThread", "oneByOne"])
async def test_sync_to_async_in_a_resolver(field):
    """
    A function that an async resolver moves to a thread, once or for every row.
    """
    with capture_hits() as hits:
        await execute(schema, f"query Q {{ {field} }}")

    assert [(hit.kind, hit.relation, hit.count, hit.operation_name) for hit in hits] == [
        ("n_plus_one", "testapp.Film.director", MANY, "Q")
    ]


async def test_data_loader():
    """
    A DataLoader whose function reads lazily in a thread.
    """

    async def load(keys):
        films = await sync_to_async(list)(models.Film.objects.filter(pk__in=[k[0] for k in keys]))
        return await sync_to_async(names_of)(films)

    with capture_hits() as hits:
        await execute(schema, "query Q { loaded }", context_value={"directors": DataLoader(load)})

    assert [(hit.kind, hit.relation, hit.count, hit.operation_name) for hit in hits] == [
        ("n_plus_one", "testapp.Film.director", MANY, "Q")
    ]


@pytest.mark.parametrize("field", ["joinedName", "prefetchedGenres"])
async def test_not_where_it_was_fetched(field):
    """
    select_related() and prefetch_related() leave nothing to load, so nothing is told.
    """
    from strawberry_django.optimizer import DjangoOptimizerExtension

    optimized = strawberry.Schema(Query, extensions=[AsyncGuardExtension, DjangoOptimizerExtension])

    with capture_hits() as hits:
        await execute(optimized, f"{{ films {{ {field} }} }}")

    assert hits == []


@pytest.mark.parametrize(
    ("threshold", "count", "expected"),
    [(5, 4, []), (5, 5, [5]), (5, 6, [6]), (1, 1, [1]), (2, 7, [7]), (0, 8, [])],
)
async def test_threshold(threshold, count, expected):
    """
    From the threshold on it is a hit, with the full count; zero: never.
    """
    settings = {"ENABLED": False, "N_PLUS_ONE_THRESHOLD": threshold}

    with override_settings(ASYNC_GUARD=settings), capture_hits() as hits:
        await execute(schema, f"{{ few(count: {count}) }}")

    assert [hit.count for hit in hits] == expected


async def test_not_what_an_error_page_shows(settings):
    """
    Django's error page reads what the variables hold, row by row: that is no hit of the project's.
    """
    settings.DEBUG = True
    await sync_to_async(screen_shelf)()

    with capture_hits() as hits:
        response = await get("/broken-with-rows/")

    assert "film 7 in room" in response.content.decode()
    assert hits == []


async def test_concurrent_operations():
    """
    Loads of several operations do not add up.
    """
    query = "query {name} {{ few(count: {count}) }}"

    async def ask(number, count):
        return await schema.execute(query.format(name=f"Q{number}", count=count))

    with capture_hits() as hits:
        await in_task(asyncio.gather(*(ask(number, number % 8 + 1) for number in range(24))))

    assert sorted((int(hit.operation_name[1:]), hit.count) for hit in hits) == [
        (number, number % 8 + 1) for number in range(24) if number % 8 + 1 >= 5
    ]


async def test_two_relations():
    """
    Two relations of one operation are two hits.
    """
    with capture_hits() as hits:
        await execute(schema, "{ films { directorName genreNames } }")

    assert sorted(told(hits)) == [
        ("n_plus_one", "testapp.Film.director", MANY, "Film.directorName", "films[].directorName"),
        ("n_plus_one", "testapp.Film.genres", MANY, "Film.genreNames", "films[].genreNames"),
    ]


async def test_sync_operation():
    """
    An operation that is executed in a thread, as by Strawberry's sync view.
    """
    with capture_hits() as hits:
        await sync_to_async(schema.execute_sync)("query Q { films { directorName } }")

    assert told(hits) == [
        ("n_plus_one", "testapp.Film.director", MANY, "Film.directorName", "films[].directorName")
    ]


async def test_without_extension_in_a_request():
    """
    A request without the extension is told of by its route.
    """
    with capture_hits() as hits:
        await get("/sync-page/")

    assert [(hit.kind, hit.relation, hit.count, hit.http_route) for hit in hits] == [
        ("n_plus_one", "testapp.Film.director", MANY, "sync-page/")
    ]


def directors(films):
    return [film.director.name for film in films]


def genres(films):
    return [[genre.name for genre in film.genres.all()] for film in films]


def works(films):
    found = models.Director.objects.all()
    return [[film.title for film in director.films.all()] for director in found]


def notes(films):
    return [[note.text for note in film.notes.all()] for film in films]


def subjects(films):
    return [note.content_object.title for note in models.Note.objects.order_by("pk")]


def restorations(films):
    return [hasattr(film, "restoration") for film in films]


def titles(films):
    return [film.synopsis for film in models.Film.objects.only("pk")]


@pytest.mark.parametrize(
    ("read", "relation"),
    [
        (directors, "testapp.Film.director"),
        (genres, "testapp.Film.genres"),
        (works, "testapp.Director.films"),
        (notes, "testapp.Film.notes"),
        (subjects, "testapp.Note.content_object"),
        (restorations, "testapp.Film.restoration"),
        (titles, "testapp.Film.synopsis"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_kinds_of_relations(read, relation):
    """
    Every kind of relation is known, also generic ones, reverse managers and deferred columns.
    """

    @strawberry.type
    class Query:
        @strawberry.field
        async def read(self) -> str:
            films = [film async for film in models.Film.objects.order_by("pk")]
            await sync_to_async(read)(films)
            return "read"

    with capture_hits() as hits:
        await execute(strawberry.Schema(Query, extensions=[AsyncGuardExtension]), "{ read }")

    assert [(hit.kind, hit.relation, hit.count) for hit in hits] == [("n_plus_one", relation, MANY)]


@pytest.mark.parametrize(
    ("lookup", "read"),
    [
        ("director", directors),
        ("genres", genres),
        ("notes", notes),
        ("restoration", restorations),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_prefetched(lookup, read):
    """
    What was prefetched is not loaded again.
    """

    @strawberry.type
    class Query:
        @strawberry.field
        async def read(self) -> str:
            await sync_to_async(lambda: read(models.Film.objects.prefetch_related(lookup)))()
            return "read"

    with capture_hits() as hits:
        await execute(strawberry.Schema(Query, extensions=[AsyncGuardExtension]), "{ read }")

    assert hits == []


@pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes came with Django 6.1")
@pytest.mark.parametrize(("mode", "expected"), [("FETCH_ONE", [MANY]), ("FETCH_PEERS", [])])
async def test_fetch_modes(mode, expected):
    """
    A queryset that fetches its peers makes one query for all, so there is nothing to tell.
    """

    @strawberry.type
    class Query:
        @strawberry.field
        async def read(self) -> str:
            films = models.Film.objects.fetch_mode(getattr(django_models, mode))
            await sync_to_async(lambda: directors(films))()
            return "read"

    with capture_hits() as hits:
        await execute(strawberry.Schema(Query, extensions=[AsyncGuardExtension]), "{ read }")

    assert [hit.count for hit in hits] == expected
