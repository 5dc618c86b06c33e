import pytest_asyncio
from asgiref.sync import sync_to_async
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.db import connections

from tests.testapp import models, services


@pytest_asyncio.fixture
async def programme(transactional_db):
    """Two films and all that hangs on them; at the end no thread keeps a connection."""
    await sync_to_async(_create_programme)()
    yield
    await sync_to_async(connections.close_all)()


def _create_programme():
    ContentType.objects.clear_cache()
    caches["db"].clear()
    services.CHARGED.clear()
    old_password = PBKDF2PasswordHasher().encode("secret", "salt", iterations=1)
    ada = User.objects.create(username="ada", password=old_password, is_staff=True)
    world = models.Strand.objects.create(name="World")
    stalker = models.Film.objects.create(
        title="Stalker",
        director=models.Director.objects.create(
            name="Tarkovsky", studio=models.Studio.objects.create(name="Mosfilm")
        ),
        curator=ada,
        strand=models.Strand.objects.create(name="Soviet", parent=world),
    )
    stalker.genres.create(name="Drama")
    models.Role.objects.create(
        film=stalker, actor=models.Actor.objects.create(name="Kaidanovsky"), character="Stalker"
    )
    models.Restoration.objects.create(
        title="Playtime", director=models.Director.objects.create(name="Tati"), year=2013
    )
    models.Membership.objects.create(user=ada, motto="In the dark", favourite=stalker)
    models.Screening.objects.create(film=stalker, room=models.Room.objects.create(name="One"))
    models.Review.objects.create(film=stalker, user=ada, text="long")
    models.Note.objects.create(content_object=stalker, text="35 mm")
    booking = models.Booking.objects.create(number="A-1", customer=ada)
    models.Ticket.objects.create(booking=booking, film=stalker)
