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


@dataclass(frozen=True)
class Reading:
    """One expression, and what it accesses in the words of the event."""

    id: str
    read: Callable[[Any], Any]
    access: str | None = None
    """None: it works without a query."""
    relation: str | None = None
    tag: str = ""
    """The marked line of the test project that it calls, if there is one."""

    def __str__(self):
        return self.id

    def told(self):
        line = self.read.__code__.co_firstlineno
        where = site(self.tag) if self.tag else f"tests/zoo/test_relations.py:{line}"
        return (Told("sync_orm", self.access, self.relation, "raised", where),)


RELATIONS = [
    Reading("foreign_key", lambda p: p.film.director, "forward_relation", "testapp.Film.director"),
    Reading("nullable", lambda p: p.film.curator, "forward_relation", "testapp.Film.curator"),
    Reading("to_self", lambda p: p.strand.parent, "forward_relation", "testapp.Strand.parent"),
    Reading("hidden", lambda p: p.member.favourite, "forward_relation", "testapp.Membership.favourite"),
    Reading("inherited", lambda p: p.screening.room, "forward_relation", "testapp.Screening.room"),
    Reading("to_user", lambda p: p.booking.customer, "forward_relation", "testapp.Booking.customer"),
    Reading("one_to_one", lambda p: p.member.user, "forward_relation", "testapp.Membership.user"),
    Reading("one_to_one_reverse", lambda p: p.ada.membership, "reverse_one_to_one", "auth.User.membership"),
    Reading("reverse", lambda p: p.film.reviews.count(), "related_manager", "testapp.Film.reviews"),
    Reading("reverse_iterated", lambda p: list(p.film.reviews.all()), "related_manager", "testapp.Film.reviews"),
    Reading("reverse_filtered", lambda p: p.film.reviews.filter(stars=5).first(), "related_manager", "testapp.Film.reviews"),
    Reading("reverse_created", lambda p: p.film.reviews.create(user=p.ada), "related_manager", "testapp.Film.reviews"),
    Reading("reverse_to_self", lambda p: p.strand.children.exists(), "related_manager", "testapp.Strand.children"),
    Reading("reverse_unnamed", lambda p: p.strand.film_set.exists(), "related_manager", "testapp.Strand.film_set"),
    Reading("reverse_inherited", lambda p: p.room.screenings.exists(), "related_manager", "testapp.Room.screenings"),
    Reading("reverse_of_user", lambda p: p.ada.bookings.exists(), "related_manager", "auth.User.bookings"),
    Reading("many_to_many", lambda p: list(p.film.genres.all()), "many_to_many", "testapp.Film.genres"),
    Reading("many_to_many_added", lambda p: p.film.genres.add(p.genre), "many_to_many", "testapp.Film.genres"),
    Reading("many_to_many_set", lambda p: p.film.genres.set([]), "many_to_many", "testapp.Film.genres"),
    Reading("many_to_many_reverse", lambda p: p.genre.films.count(), "many_to_many", "testapp.Genre.films"),
    Reading("through", lambda p: p.film.cast.count(), "many_to_many", "testapp.Film.cast"),
    Reading("through_reverse", lambda p: list(p.actor.films.all()), "many_to_many", "testapp.Actor.films"),
    Reading("generic_key", lambda p: p.note.content_object, "generic_relation", "testapp.Note.content_object"),
    Reading("generic", lambda p: p.film.notes.count(), "generic_relation", "testapp.Film.notes"),
    Reading("generic_iterated", lambda p: list(p.film.notes.all()), "generic_relation", "testapp.Film.notes"),
    Reading("child", lambda p: p.film.restoration, "reverse_one_to_one", "testapp.Film.restoration"),
    Reading("parent", lambda p: p.slim_restoration.film_ptr, "forward_relation", "testapp.Restoration.film_ptr"),
    Reading("of_parent", lambda p: p.restoration.director, "forward_relation", "testapp.Restoration.director"),
    Reading("of_proxy", lambda p: p.documentary.director, "forward_relation", "testapp.Documentary.director"),
    Reading("reverse_of_proxy", lambda p: p.documentary.reviews.count(), "related_manager", "testapp.Documentary.reviews"),
    Reading("deferred", lambda p: p.slim.synopsis, "deferred_field", "testapp.Film.synopsis"),
    Reading("deferred_key", lambda p: p.slim.director_id, "deferred_field", "testapp.Film.director_id"),
    Reading("behind_deferred_key", lambda p: p.slim.director, "forward_relation", "testapp.Film.director"),
    Reading("deferred_of_parent", lambda p: p.slim_restoration.title, "deferred_field", "testapp.Restoration.title"),
    Reading("prefetched", lambda p: prefetch_related_objects([p.film], "genres"), "many_to_many", "testapp.Film.genres"),
    Reading("prefetched_to_attr", lambda p: prefetch_related_objects([p.film], p.best), "related_manager", "testapp.Film.reviews"),
]
CALLS = [
    Reading("queryset", lambda p: list(Film.objects.all()), "queryset"),
    Reading("queryset_bool", lambda p: bool(Film.objects.all()), "queryset"),
    Reading("queryset_len", lambda p: len(Film.objects.all()), "queryset"),
    Reading("queryset_item", lambda p: Film.objects.order_by("pk")[0], "queryset"),
    Reading("queryset_contains", lambda p: p.film in Film.objects.all(), "queryset"),
    Reading("queryset_iterator", lambda p: list(Film.objects.iterator()), "queryset"),
    Reading("values_list", lambda p: list(Film.objects.values_list("pk")), "queryset"),
    Reading("get", lambda p: Film.objects.get(title="Stalker"), "queryset"),
    Reading("get_or_create", lambda p: Studio.objects.get_or_create(name="x"), "queryset"),
    Reading("get_or_404", lambda p: get_object_or_404(Film, title="Stalker"), "queryset"),
    Reading("in_bulk", lambda p: Film.objects.in_bulk(), "queryset"),
    Reading("aggregate", lambda p: Film.objects.aggregate(Count("pk")), "queryset"),
    Reading("create", lambda p: Studio.objects.create(name="x"), "queryset"),
    Reading("bulk_create", lambda p: Studio.objects.bulk_create([Studio(name="x")]), "queryset"),
    Reading("bulk_update", lambda p: Film.objects.bulk_update([p.film], ["title"]), "queryset"),
    Reading("update", lambda p: Film.objects.update(title="x"), "queryset"),
    Reading("delete_all", lambda p: Review.objects.all().delete(), "queryset"),
    Reading("custom_manager", lambda p: Film.programme.titles(), "queryset", tag="manager_titles"),
    Reading("save", lambda p: p.film.save(), "instance_write"),
    Reading("delete", lambda p: p.film.delete(), "instance_write"),
    Reading("save_child", lambda p: p.restoration.save(), "instance_write"),
    Reading("refresh_from_db", lambda p: p.film.refresh_from_db(), "instance_read"),
    Reading("atomic", lambda p: transaction.atomic().__enter__(), "transaction"),
    Reading("raw", lambda p: list(Film.objects.raw("SELECT * FROM testapp_film")), "raw_sql"),
    Reading("cursor", lambda p: connection.cursor(), "raw_sql"),
    Reading("connect", lambda p: connection.ensure_connection(), "connection"),
    Reading("permission", lambda p: p.ada.has_perm("testapp.add_film"), "auth"),
    Reading("groups", lambda p: p.ada.groups.exists(), "many_to_many", "auth.User.groups"),
]
WITHOUT_A_QUERY = [
    Reading("null", lambda p: p.restoration.curator),
    Reading("whole_parent", lambda p: p.restoration.film_ptr),
    Reading("key_column", lambda p: p.film.director_id),
    Reading("lazy_queryset", lambda p: p.film.reviews.filter(stars=5).order_by("pk")),
    Reading("joined", lambda p: p.joined.director.studio),
    Reading("fetched_before", lambda p: list(p.joined.genres.all())),
]


async def load_rows():
    """Return the rows of the programme as an async view would load them."""
    films = Film.objects.filter(title="Stalker")
    return SimpleNamespace(
        film=await films.aget(),
        slim=await films.only("title").aget(),
        joined=await films.select_related("director__studio").prefetch_related("genres").aget(),
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
        best=Prefetch("reviews", Review.objects.filter(stars=5), to_attr="best_reviews"),
    )


def case_of(reading):
    async def drive():
        reading.read(await load_rows())
        return "done"

    return Case(reading.id, "", drive, seen=None)


@pytest.mark.parametrize("reading", RELATIONS + CALLS, ids=str)
async def test_reading(reading, programme):
    """
    A lazy read or write is named as the project writes it, at the project's line.
    """
    with capture_hits() as hits:
        seen = await answer(case_of(reading))

    assert seen == "SynchronousOnlyOperation"
    assert told(hits) == reading.told()


@pytest.mark.parametrize("name", ["generic_key", "generic"])
async def test_first_generic_relation(name, programme):
    """
    The relation is named although the query was for its content type, which nobody had cached.
    """
    reading = next(each for each in RELATIONS if each.id == name)
    ContentType.objects.clear_cache()

    with capture_hits() as hits:
        await answer(case_of(reading))

    assert told(hits) == reading.told()


@pytest.mark.parametrize("reading", WITHOUT_A_QUERY, ids=str)
async def test_reading_what_is_there(reading, programme):
    """
    What asks no database is no hit.
    """
    with capture_hits() as hits:
        seen = await answer(case_of(reading))

    assert seen == "done"
    assert hits == []
