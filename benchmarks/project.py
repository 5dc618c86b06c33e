"""
The bare program: a Django project of two models in an in-memory SQLite database.

The database is one shared cache for all threads of the process, because an awaited query runs in
asgiref's worker thread, and a plain ``:memory:`` database would be empty there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django
from django.conf import settings

ROWS = 500

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "file:benchmarks?mode=memory&cache=shared",
    }
}

DEFAULT_ASYNC_GUARD = {"ENABLED": False}
"""A contender is switched on by its turn, so the app must not install itself at start."""


def set_up(*apps: str, async_guard: Mapping[str, Any] = DEFAULT_ASYNC_GUARD) -> None:
    """Start Django with *apps* beside our own, and fill the database."""
    configure(*apps, async_guard=async_guard, databases=DATABASES)
    _create_tables()
    _fill_tables()


def configure(
    *apps: str,
    databases: Mapping[str, Any],
    async_guard: Mapping[str, Any] = DEFAULT_ASYNC_GUARD,
) -> None:
    """Start Django with *apps* beside our own."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "benchmarks", *apps],
        DATABASES=dict(databases),
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
        SECRET_KEY="benchmarks",
        USE_TZ=True,
        ASYNC_GUARD=dict(async_guard),
        ZEAL_RAISE=False,
        ZEAL_NPLUSONE_THRESHOLD=10**9,  # the ratios compare programs without a hit
    )
    django.setup()


def _create_tables() -> None:
    from django.db import connection

    from benchmarks.models import Author, Book, Portrait

    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
        editor.create_model(Portrait)


def _fill_tables() -> None:
    from benchmarks.models import Author, Book, Portrait

    authors = Author.objects.bulk_create(Author(name=f"Author {n}") for n in range(ROWS))
    Book.objects.bulk_create(
        Book(title=f"Book {number}", author=author) for number, author in enumerate(authors)
    )
    Portrait.objects.bulk_create(Portrait(author=author, painter="Ada") for author in authors)
