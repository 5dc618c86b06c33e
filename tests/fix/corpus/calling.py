"""What async functions call that has an async twin, or has to go to a thread."""

import asyncio

from asgiref.sync import async_to_sync, sync_to_async
from django import shortcuts
from django.contrib.auth import authenticate as log_in_with
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.http import Http404
from django.shortcuts import get_list_or_404, get_object_or_404, render
from rest_framework_simplejwt.tokens import RefreshToken

from tests.testapp.forms import ReviewForm
from tests.testapp.models import Booking, Film, Genre, Review, Studio


async def several_in_one_function():
    film = Film.objects.get(title="Stalker")  # one
    film.title = "The Zone"
    film.save()
    film.refresh_from_db()
    Genre.objects.create(name="Noir")
    Genre.objects.create(name="Western")
    count = Genre.objects.count() + Film.objects.count()
    film.genres.add(Genre.objects.get(name="Noir"), *list(Genre.objects.filter(name="Western")))
    return film.title, count, film.genres.count()


async def in_one_expression():
    return Review.objects.filter(film=Film.objects.get(title="Stalker")).exists(), (
        Film.objects.get(title="Stalker").title
    )


async def chain_over_lines():
    film = (
        Film.objects.filter(title__startswith="St")  # the first
        .order_by("pk")
        .first()
    )
    return film.title.upper()


async def every_method():
    films = Film.objects.order_by("pk")
    Studio.objects.get_or_create(name="x")
    Studio.objects.update_or_create(name="x", defaults={"name": "y"})
    Studio.objects.bulk_create([Studio(name="z")])
    found = films.first()
    found.synopsis = "new"
    Film.objects.bulk_update([found], ["synopsis"])
    updated = Studio.objects.filter(name="y").update(name="w")
    deleted, _ = Studio.objects.filter(name="z").delete()
    return (
        [films.first().title, films.last().title, films.latest("pk").title],
        len(films.in_bulk()),
        films.aggregate(n=shortcuts_count("pk")),
        films.contains(found),
        films.exists(),
        films.earliest("pk").synopsis,
        updated,
        deleted,
    )


def shortcuts_count(field):
    from django.db.models import Count

    return Count(field)


async def delete_instance():
    Review.objects.get(text="long").delete()
    return await Review.objects.acount()


async def related_managers():
    film = await Film.objects.aget(title="Stalker")
    film.genres.create(name="Noir")
    film.genres.remove(await Genre.objects.aget(name="Noir"))
    film.genres.set([])
    film.genres.clear()
    film.reviews.all().delete()
    return film.genres.count(), film.reviews.exists()


async def in_an_f_string():
    return f"{Film.objects.count()} films, {Film.objects.get(title='Stalker').title!r}"


async def in_conditions():
    return [
        "some" if Film.objects.exists() else "none",
        not Film.objects.exists(),
        Film.objects.count() > 1 and Film.objects.count() ** 2,
        -Film.objects.count(),
    ]


async def in_a_lambda_free_default(count=3):
    return [Film.objects.count() for _ in range(count)]


async def in_a_nested_async_function():
    async def count():
        return Film.objects.count()

    return await asyncio.create_task(count())


async def shortcut():
    try:
        get_object_or_404(Film, title="none")
    except Http404:
        film = shortcuts.get_object_or_404(Film.objects.all(), title="Stalker")
        return film.title, len(get_list_or_404(Film))


async def auth(request):
    user = log_in_with(request, username="ada", password="secret")
    login(request, user)
    return user.has_perm("testapp.add_film"), user.username


async def lazy_user(request):
    if request.user.is_authenticated and request.user.is_staff:
        return request.user.username
    return None


async def lazy_user_by_name(request):
    user = request.user
    return user.username, user.pk == request.user.pk


async def bookings_of_the_user(request):
    return await Booking.objects.filter(customer=request.user).acount()


async def session(request):
    old = request.session.get("basket"), request.session["basket"]
    request.session["basket"] = ["Playtime"]
    request.session["more"] = 1, 2
    del request.session["more"]
    request.session.update({"x": 1})
    return old, "basket" in request.session, "more" not in request.session


async def item_of_the_session(request):
    return request.session["basket"]


async def key_in_the_session(request):
    return "basket" in request.session, "x"


async def no_key_in_the_session(request):
    return "basket" not in request.session


async def write_to_the_session(request):
    request.session["basket"] = ["Playtime"]
    return await request.session.aget("basket")


async def delete_from_the_session(request):
    del request.session["basket"]
    return await request.session.aget("basket", "gone")


async def missing_key_of_the_session(request):
    try:
        return request.session["none"]
    except KeyError:
        return "missing"


async def cache():
    cache = caches["db"]
    cache.set("a", 1)
    return cache.get("a"), "a" in cache, cache.get_or_set("b", 2), cache.incr("a")


async def library():
    user = await User.objects.aget(username="ada")
    return RefreshToken.for_user(user)["user_id"], ReviewForm({"film": "1"}).is_valid()


async def rendered(request):
    films = Film.objects.all()
    return len(render(request, "testapp/listing.html", {"films": films}).content)


async def coroutine():
    async def title():
        return (await Film.objects.aget(title="Stalker")).title

    return async_to_sync(title)()


async def transaction_with_return():
    with transaction.atomic():
        film = await Film.objects.select_for_update().aget(title="Stalker")
        film.title = "The Zone"
        await film.asave()
        return [film.title async for film in Film.objects.order_by("pk")]


async def transaction_with_names(number="A-1"):
    total = 1
    # pay
    with transaction.atomic():  # both or none
        booking = Booking.objects.get(number=number)
        booking.status = "paid"
        booking.save()
        total += Booking.objects.count()
        names = []
        for film in Film.objects.order_by("pk"):
            names.append(film.title)
    # done
    return booking.status, total, names


async def transaction_that_fails():
    try:
        with transaction.atomic():
            await Genre.objects.acreate(name="Noir")
            raise ValueError("no")
    except ValueError:
        return await Genre.objects.filter(name="Noir").acount()


async def two_transactions():
    with transaction.atomic():
        await Genre.objects.acreate(name="a")
    with transaction.atomic():
        await Genre.objects.acreate(name="b")
    return await Genre.objects.acount()


async def cursor():
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM testapp_film")
        (count,) = cursor.fetchone()
    return count


def _title_of(pk):
    return Film.objects.get(pk=pk).title


async def sync_function():
    film = await Film.objects.aget(title="Stalker")
    return _title_of(film.pk)


async def property_of_a_model():
    film = await Film.objects.aget(title="Stalker")
    return film.average_stars


async def rows_of_a_page():
    page = await sync_to_async(Paginator(Film.objects.order_by("pk"), 2).page)(1)
    return [film.title for film in page]


@transaction.atomic
def _booked(number):
    return Booking.objects.create(number=number, customer=User.objects.get(username="ada"))


def _booked_in_a_block(number):
    with transaction.atomic():
        return _booked(number)


def _counted():
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM testapp_film")
        return cursor.fetchone()[0]


async def decorated_transaction():
    return _booked("A-2").number


async def transaction_of_a_function():
    return _booked_in_a_block("A-3").number


async def cursor_of_a_function():
    return _counted() > 0
