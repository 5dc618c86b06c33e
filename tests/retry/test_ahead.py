"""What the rows of a list are known to need is loaded before their resolvers run."""

import threading
from collections import Counter

import pytest
import strawberry
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import override_settings
from strawberry.permission import BasePermission

from async_guard import retrying, routes
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.retry import ahead
from async_guard.testing import capture_hits
from tests.testapp.models import Director, Film, Membership, Studio

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]

BODIES = Counter()
THREADS = set()


class Never(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, **kwargs):
        return False


@strawberry.type
class DirectorType:
    name: str


@strawberry.type
class FilmType:
    title: str

    @strawberry.field
    def director(self) -> DirectorType:
        BODIES["director"] += 1
        THREADS.add(threading.current_thread())
        return self.director

    @strawberry.field
    def studio_name(self) -> str:
        BODIES["studio_name"] += 1
        return self.director.studio.name

    @strawberry.field(permission_classes=[Never])
    def secret(self) -> DirectorType | None:
        return self.director


@strawberry.type
class UserType:
    username: str

    @strawberry.field
    def motto(self) -> str | None:
        return self.membership.motto if hasattr(self, "membership") else None


@strawberry.type
class Query:
    @strawberry.field
    async def films(self) -> list[FilmType]:
        return [film async for film in Film.objects.order_by("pk")]

    @strawberry.field
    def sync_films(self) -> list[FilmType]:
        return Film.objects.order_by("pk")

    @strawberry.field
    async def users(self) -> list[UserType]:
        return [user async for user in User.objects.order_by("pk")]

    @strawberry.field
    async def nothing(self) -> list[FilmType] | None:
        return None


schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
DIRECTORS = {"films": [{"director": {"name": name}} for name in ("Tarkovsky", "Tati", "Varda")]}


@pytest.fixture(autouse=True)
def nothing_counted():
    BODIES.clear()
    THREADS.clear()


def more_films():
    studio = Studio.objects.create(name="Mosfilm")
    Director.objects.update(studio=studio)
    for title, name in (("Playtime", "Tati"), ("Cléo", "Varda")):
        director = Director.objects.create(name=name, studio=studio)
        Film.objects.create(title=title, director=director)
    connections.close_all()


async def learned(text, *, later=None, mode="rerun", settings=()):
    """Execute an operation, and then, with what was learned from it, that one or another."""
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, **dict(settings)})
    with changed, retrying(mode):
        await schema.execute(text)
        BODIES.clear()
        THREADS.clear()
        with capture_hits() as hits:
            result = await schema.execute(later or text)
        uses = {route.name: route.uses for route in routes()}
    assert result.errors is None, result.errors
    return result.data, hits, uses


def told(hits):
    return [
        (hit.outcome, hit.count, hit.retry_queries, hit.retry_hop_size, hit.retry_batched)
        for hit in hits
    ]


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_rows_of_a_learned_field(film, mode):
    """
    One query loads the relation for all rows, and each resolver runs once, in the loop.
    """
    await sync_to_async(more_films)()

    data, hits, uses = await learned("{ films { director { name } } }", mode=mode)

    assert data == DIRECTORS
    assert told(hits) == [("retried", 3, 1, 3, True)]
    assert uses["FilmType.director"] >= 3
    assert BODIES == {"director": 3}
    assert {threading.current_thread()} == THREADS


async def test_rows_of_a_sync_list(film):
    """
    The rows that a synchronous resolver gives from the worker are loaded, too.
    """
    await sync_to_async(more_films)()

    data, hits, _uses = await learned("{ syncFilms { director { name } } }")

    assert data == {"syncFilms": DIRECTORS["films"]}
    assert {hit.outcome for hit in hits} == {"retried"}
    assert {threading.current_thread()} == THREADS


@pytest.mark.parametrize(
    "later",
    [
        "{ films { title } }",
        "{ nothing { director { name } } }",
    ],
)
async def test_what_is_not_asked_for(film, later):
    """
    An operation that does not ask for the field, or has no rows, costs no query.
    """
    await sync_to_async(more_films)()

    _data, hits, _uses = await learned("{ films { director { name } } }", later=later)

    assert hits == []


@pytest.mark.parametrize(
    "later",
    [
        "{ films { ...F } } fragment F on FilmType { director { name } }",
        "{ films { ... on FilmType { director { name } } } }",
        "{ films { ...F ...F } films { title } } fragment F on FilmType { director { name } }",
        "{ films { him: director { name } } }",
    ],
)
async def test_fragments_and_aliases(film, later):
    """
    A field is known to be asked for in a fragment, and by another name.
    """
    await sync_to_async(more_films)()

    _data, hits, _uses = await learned("{ films { director { name } } }", later=later)

    assert told(hits) == [("retried", 3, 1, 3, True)]
    assert {threading.current_thread()} == THREADS


@pytest.mark.parametrize(("skip", "count"), [("true", 0), ("false", 3)])
async def test_directives(film, skip, count):
    """
    A field below a directive is loaded only when its resolver asks.
    """
    await sync_to_async(more_films)()

    _data, hits, _uses = await learned(
        "{ films { director { name } } }",
        later=f"{{ films {{ title director @skip(if: {skip}) {{ name }} }} }}",
    )

    assert sum(hit.count for hit in hits) == count
    assert ({"director": 3} if count else {}) == BODIES


async def test_a_field_that_needs_more(film):
    """
    Where the relation is not all that a field needs, it goes to the worker, and runs there once.
    """
    await sync_to_async(more_films)()
    with retrying("rerun"):
        for _ in range(3):
            await schema.execute("{ films { studioName } }")
        BODIES.clear()
        result = await schema.execute("{ films { studioName } }")

    assert result.data == {"films": [{"studioName": "Mosfilm"}] * 3}
    assert BODIES == {"studio_name": 3}


async def test_missing_rows(film):
    """
    A row without the relation is what it is without a retry.
    """
    for name, motto in (("ada", "Now"), ("bob", None), ("eve", "Then")):
        user = await User.objects.acreate(username=name)
        if motto:
            await Membership.objects.acreate(user=user, motto=motto)

    data, _hits, _uses = await learned("{ users { motto } }")

    assert data == {"users": [{"motto": "Now"}, {"motto": None}, {"motto": "Then"}]}


async def test_permissions(film):
    """
    A field whose rows were loaded is still denied to those who may not see it.
    """
    await sync_to_async(more_films)()
    with retrying("rerun"):
        await schema.execute("{ films { director { name } } }")
        result = await schema.execute("{ films { director { name } secret { name } } }")

    assert result.data == {"films": [{**each, "secret": None} for each in DIRECTORS["films"]]}
    assert [error.message for error in result.errors] == ["Denied."] * 3


async def test_without_batching(film):
    """
    With ``RETRY_BATCHING`` off each resolver loads for itself, in the worker.
    """
    await sync_to_async(more_films)()

    data, hits, _uses = await learned(
        "{ films { director { name } } }", settings={"RETRY_BATCHING": False}
    )

    assert data == DIRECTORS
    assert told(hits) == [("retried", 3, 3, 3, False)]
    assert threading.current_thread() not in THREADS


async def test_what_cannot_be_loaded_together(film, monkeypatch):
    """
    Where one query is not known to give the same each resolver loads for itself; one list waits
    in vain, the next ones do not.
    """
    await sync_to_async(more_films)()
    load_relation, tries = ahead.load_relation, []

    def counted(*args):
        tries.append(args)
        return load_relation(*args)

    monkeypatch.setattr("async_guard.retry.batching.is_provable", lambda descriptor: False)
    monkeypatch.setattr(ahead, "load_relation", counted)
    with retrying("rerun"):
        for _ in range(3):
            await schema.execute("{ films { director { name } } }")
        with capture_hits() as hits:
            result = await schema.execute("{ films { director { name } } }")

    assert result.data == DIRECTORS
    assert told(hits) == [("retried", 3, 3, 3, False)]
    assert len(tries) == 1


async def test_a_database_that_fails(film, monkeypatch):
    """
    When loading ahead fails the resolvers try for themselves, and what they meet is the answer.
    """
    await sync_to_async(more_films)()

    def fail(*args):
        raise RuntimeError("broken")

    with retrying("rerun"):
        await schema.execute("{ films { director { name } } }")
        monkeypatch.setattr(ahead, "load_relation", fail)
        result = await schema.execute("{ films { director { name } } }")

    assert (result.data, result.errors) == (DIRECTORS, None)
