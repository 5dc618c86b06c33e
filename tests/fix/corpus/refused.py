"""What cannot be fixed by a rewrite of the line; the docstring is the sentence that says why."""

from contextlib import contextmanager

from django.core.paginator import Paginator
from django.db import connection, transaction

from tests.testapp.models import Film, Genre


async def in_a_lambda():
    """It is in a lambda, where await is not allowed."""
    count = lambda: Film.objects.count()  # noqa: E731
    return count()


async def in_a_nested_function():
    """count is a sync def inside the async in_a_nested_function, and cannot await."""

    def count():
        return Film.objects.count()

    return max([1], key=lambda _: count())


async def in_a_class():
    """It is in the body of class Total, which cannot await."""

    class Total:
        films = Film.objects.count()

    return Total.films


async def in_a_generator_expression():
    """It is in a generator expression, which cannot await for who reads it."""
    return any(film.title.endswith("r") for film in Film.objects.all())


async def inside_a_generator_expression():
    """It is in a generator expression, which cannot await for who reads it."""
    return any(Genre.objects.count() for _ in range(2))


async def awaits_in_a_transaction():
    """The block awaits publish, which is not only the ORM."""
    with transaction.atomic():
        await Genre.objects.acreate(name="Noir")
        await publish("Noir")


async def publish(name):
    return name


async def returns_from_the_middle():
    """The block returns from its middle, so it cannot become a function."""
    with transaction.atomic():
        if await Genre.objects.aexists():
            return 1
        await Genre.objects.acreate(name="Noir")
    return 2


async def leaves_the_loop():
    """The block leaves the loop around it, so it cannot become a function."""
    for _ in range(2):
        with transaction.atomic():
            await Genre.objects.acreate(name="Noir")
            break


async def name_that_may_be_unbound():
    """Whether genre always has a value after the block is not sure."""
    with transaction.atomic():
        if await Film.objects.aexists():
            genre = await Genre.objects.acreate(name="Noir")
    return genre


async def cursor_without_a_block():
    """All that belongs to it has to move to a thread, and that is not one block."""
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    return cursor.fetchone()


async def lazy_page():
    """What page returns is lazy, too: it and what uses its rows belong into one sync function."""
    page = Paginator(Film.objects.order_by("pk"), 2).page(1)
    return len(page)


def _titles():
    for film in Film.objects.all():
        yield film.title


async def rows_of_a_generator():
    """_titles is a generator: it runs where it is read, not where it is called."""
    return list(_titles())


@contextmanager
def _unit():
    with transaction.atomic():
        yield


async def transaction_of_a_context_manager():
    """_unit is a generator: it runs where it is read, not where it is called."""
    with _unit():
        return await Genre.objects.acount()


def _begin():
    transaction.atomic().__enter__()


async def transaction_that_is_left_open():
    """All that belongs to it has to move to a thread, and that is not one block."""
    _begin()
