"""What is known in the file by another name."""

from asgiref.sync import sync_to_async as in_a_thread
from django.shortcuts import get_object_or_404 as found_or_404

from tests.testapp.models import Film, Genre


def title_of(title):
    return Film.objects.get(title=title).title


async def another_name():
    return found_or_404(Film, title="Stalker").director.name


async def imported_by_another_name():
    await in_a_thread(Genre.objects.create)(name="Noir")
    return [title_of(title) for title in ("Stalker", "Playtime")]


async def twice_on_a_line():
    return title_of("Stalker"), title_of(title_of("Playtime"))


async def in_a_condition():
    if title_of("Stalker") == "Stalker" and (title := title_of("Playtime")) != "x":
        return title
    return None
