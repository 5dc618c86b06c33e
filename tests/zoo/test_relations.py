"""
Every kind of relation, column and call that reads or writes the database, a line each.

The line of the lambda is the call site.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import Count, Prefetch, prefetch_related_objects
from django.shortcuts import get_object_or_404

from async_guard.testing import capture_hits
from tests.testapp import models
from tests.testapp.models import Film, Review, Studio
from tests.zoo.case import Case, Told, answer, site, told

pytestmark = pytest.mark.asyncio

RELATIONS = {
    "forward_relation": [
        ("testapp.Film.director", lambda p: p.film.director),
        ("testapp.Film.director", lambda p: p.slim.director),
        ("testapp.Film.curator", lambda p: p.film.curator),
        ("testapp.Strand.parent", lambda p: p.strand.parent),
        ("testapp.Membership.user", lambda p: p.member.user),
        ("testapp.Membership.favourite", lambda p: p.member.favourite),
        ("testapp.Booking.customer", lambda p: p.booking.customer),
        ("testapp.Screening.room", lambda p: p.screening.room),
        ("testapp.Note.content_type", lambda p: p.note.content_type),
        ("testapp.Documentary.director", lambda p: p.documentary.director),
        ("testapp.Restoration.director", lambda p: p.restoration.director),
        ("testapp.Restoration.film_ptr", lambda p: p.slim_restoration.film_ptr),
    ],
    "reverse_one_to_one": [
        ("auth.User.membership", lambda p: p.ada.membership),
        ("testapp.Film.restoration", lambda p: p.film.restoration),
    ],
    "related_manager": [
        ("testapp.Film.reviews", lambda p: list(p.film.reviews.all())),
        ("testapp.Film.reviews", lambda p: p.film.reviews.count()),
        ("testapp.Film.reviews", lambda p: p.film.reviews.filter(stars=5).first()),
        ("testapp.Film.reviews", lambda p: p.film.reviews.create(user=p.ada)),
        ("testapp.Film.reviews", lambda p: prefetch_related_objects([p.film], "reviews")),
        ("testapp.Film.reviews", lambda p: prefetch_related_objects([p.film], p.best_reviews)),
        ("testapp.Strand.children", lambda p: p.strand.children.exists()),
        ("testapp.Strand.film_set", lambda p: p.strand.film_set.exists()),
        ("testapp.Room.screenings", lambda p: p.room.screenings.exists()),
        ("testapp.Documentary.reviews", lambda p: p.documentary.reviews.count()),
        ("auth.User.bookings", lambda p: p.ada.bookings.exists()),
    ],
    "many_to_many": [
        ("testapp.Film.genres", lambda p: list(p.film.genres.all())),
        ("testapp.Film.genres", lambda p: p.film.genres.add(p.genre)),
        ("testapp.Film.genres", lambda p: p.film.genres.set([])),
        ("testapp.Film.genres", lambda p: prefetch_related_objects([p.film], "genres")),
        ("testapp.Genre.films", lambda p: p.genre.films.count()),
        ("testapp.Film.cast", lambda p: p.film.cast.count()),
        ("testapp.Actor.films", lambda p: list(p.actor.films.all())),
        ("auth.User.groups", lambda p: p.ada.groups.exists()),
    ],
    "generic_relation": [
        ("testapp.Note.content_object", lambda p: p.note.content_object),
        ("testapp.Film.notes", lambda p: list(p.film.notes.all())),
        ("testapp.Film.notes", lambda p: p.film.notes.count()),
    ],
    "deferred_field": [
        ("testapp.Film.synopsis", lambda p: p.slim.synopsis),
        ("testapp.Film.director_id", lambda p: p.slim.director_id),
        ("testapp.Restoration.title", lambda p: p.slim_restoration.title),
    ],
}
CALLS = {
    "queryset": [
        ("iterate", lambda p: list(Film.objects.all())),
        ("bool", lambda p: bool(Film.objects.all())),
        ("len", lambda p: len(Film.objects.all())),
        ("index", lambda p: Film.objects.order_by("pk")[0]),
        ("contains", lambda p: p.film in Film.objects.all()),
        ("iterator", lambda p: list(Film.objects.iterator())),
        ("values_list", lambda p: list(Film.objects.values_list("pk"))),
        ("get", lambda p: Film.objects.get(title="Stalker")),
        ("get_or_create", lambda p: Studio.objects.get_or_create(name="x")),
        ("get_or_404", lambda p: get_object_or_404(Film, title="Stalker")),
        ("in_bulk", lambda p: Film.objects.in_bulk()),
        ("aggregate", lambda p: Film.objects.aggregate(Count("pk"))),
        ("create", lambda p: Studio.objects.create(name="x")),
        ("bulk_create", lambda p: Studio.objects.bulk_create([Studio(name="x")])),
        ("bulk_update", lambda p: Film.objects.bulk_update([p.film], ["title"])),
        ("update", lambda p: Film.objects.update(title="x")),
        ("delete", lambda p: Review.objects.all().delete()),
    ],
    "instance_write": [
        ("save", lambda p: p.film.save()),
        ("save_child", lambda p: p.restoration.save()),
        ("delete_instance", lambda p: p.film.delete()),
    ],
    "instance_read": [("refresh_from_db", lambda p: p.film.refresh_from_db())],
    "transaction": [("atomic", lambda p: transaction.atomic().__enter__())],
    "raw_sql": [
        ("raw", lambda p: list(Film.objects.raw("SELECT * FROM testapp_film"))),
        ("cursor", lambda p: connection.cursor()),
    ],
    "connection": [("connect", lambda p: connection.ensure_connection())],
    "auth": [("has_perm", lambda p: p.ada.has_perm("testapp.add_film"))],
}
WITHOUT_A_QUERY = [
    ("null", lambda p: p.restoration.curator),
    ("whole_parent", lambda p: p.restoration.film_ptr),
    ("key_column", lambda p: p.film.director_id),
    ("joined", lambda p: p.joined.director.studio),
    ("lazy_queryset", lambda p: p.film.reviews.filter(stars=5).order_by("pk")),
]


@dataclass(frozen=True)
class Reading:
    """One expression, and what it accesses in the words of the event."""

    read: Callable[[Any], Any]
    access: str
    relation: str | None = None

    def told(self):
        where = f"tests/zoo/test_relations.py:{self.read.__code__.co_firstlineno}"
        return (Told("sync_orm", self.access, self.relation, "raised", where),)


def expression(read):
    """Return the names in the lambda, in their order: enough to tell two lines apart."""
    return ".".join(read.__code__.co_names)


READINGS = [
    *(
        pytest.param(Reading(read, access, relation), id=f"{relation}-{expression(read)}")
        for access, rows in RELATIONS.items()
        for relation, read in rows
    ),
    *(
        pytest.param(Reading(read, access), id=name)
        for access, rows in CALLS.items()
        for name, read in rows
    ),
]


async def load_rows():
    """Return the rows of the programme as an async view would load them."""
    films = Film.objects.filter(title="Stalker")
    return SimpleNamespace(
        film=await films.aget(),
        slim=await films.only("title").aget(),
        joined=await films.select_related("director__studio").aget(),
        documentary=await models.Documentary.objects.aget(title="Stalker"),
        restoration=await models.Restoration.objects.aget(),
        slim_restoration=await models.Restoration.objects.only("year").aget(),
        ada=await User.objects.aget(username="ada"),
        member=await models.Membership.objects.aget(),
        strand=await models.Strand.objects.aget(name="Soviet"),
        genre=await models.Genre.objects.aget(),
        actor=await models.Actor.objects.aget(),
        room=await models.Room.objects.aget(),
        screening=await models.Screening.objects.aget(),
        booking=await models.Booking.objects.aget(),
        note=await models.Note.objects.aget(),
        best_reviews=Prefetch("reviews", Review.objects.filter(stars=5), to_attr="best_reviews"),
    )


async def try_to(read):
    """Return "done", or the name of the exception that left the task."""

    async def drive():
        read(await load_rows())
        return "done"

    return await answer(Case("", "", drive, seen=None))


@pytest.mark.parametrize("reading", READINGS)
async def test_reading(reading, programme):
    """
    A lazy read or write is named as the project writes it, at the project's line.
    """
    with capture_hits() as hits:
        seen = await try_to(reading.read)

    assert seen == "SynchronousOnlyOperation"
    assert told(hits) == reading.told()


@pytest.mark.parametrize(
    "read", [read for _, read in RELATIONS["generic_relation"]], ids=expression
)
async def test_first_generic_relation(read, programme):
    """
    A generic relation is named, also where the query was for its content type.
    """
    ContentType.objects.clear_cache()

    with capture_hits() as hits:
        await try_to(read)

    [hit] = hits
    assert (hit.access, hit.line) == ("generic_relation", read.__code__.co_firstlineno)


async def test_custom_manager(programme):
    """
    A query in a manager of the project is named by the manager's line.
    """
    with capture_hits() as hits:
        await try_to(lambda p: Film.programme.titles())

    expected = Told("sync_orm", "queryset", None, "raised", site("manager_titles"))
    assert told(hits) == (expected,)


@pytest.mark.parametrize("read", [pytest.param(read, id=name) for name, read in WITHOUT_A_QUERY])
async def test_reading_what_is_there(read, programme):
    """
    What asks no database is no hit.
    """
    with capture_hits() as hits:
        seen = await try_to(read)

    assert seen == "done"
    assert hits == []
