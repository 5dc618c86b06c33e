"""The programs of the retries' table. Import it after Django has started."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast
from unittest import mock

import strawberry
import strawberry_django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.retry.resume import driven
from benchmarks import schemas
from benchmarks.models import Author, Portrait
from benchmarks.retries import Run
from benchmarks.workloads import AGETS

RUNS = {"bodies": 0}


@strawberry_django.type(Portrait)
class PortraitType:
    painter: strawberry.auto


@strawberry.type
class Unfixed:
    """As somebody wrote it."""

    name: str

    @strawberry.field
    def portrait(self) -> PortraitType | None:
        RUNS["bodies"] += 1
        author = cast(Any, self)
        return author.portrait if hasattr(author, "portrait") else None


@strawberry.type
class Mended:
    """As it is mended by hand."""

    name: str

    @strawberry.field
    async def portrait(self) -> PortraitType | None:
        RUNS["bodies"] += 1
        return await sync_to_async(lambda: getattr(self, "portrait", None))()


@strawberry_django.type(Author)
class DjangoField:
    """As strawberry_django does it: always in a thread."""

    @strawberry_django.field
    def portrait(self) -> PortraitType | None:
        RUNS["bodies"] += 1
        return cast(Any, getattr(self, "portrait", None))


@strawberry.type
class Query:
    @strawberry.field
    async def unfixed(self) -> list[Unfixed]:
        return cast(Any, await _authors())

    @strawberry.field
    async def loaded(self) -> list[Unfixed]:
        authors = await _authors()
        await sync_to_async(lambda: [getattr(each, "portrait", None) for each in authors])()
        return cast(Any, authors)

    @strawberry.field
    async def mended(self) -> list[Mended]:
        return cast(Any, await _authors())

    @strawberry_django.field
    def django_field(self) -> list[DjangoField]:
        return cast(Any, _all_authors())

    @strawberry.field
    def resolved(self) -> list[schemas.Resolved]:
        return schemas.resolved_objects()


async def _authors() -> list[Author]:
    return [author async for author in _all_authors()]


def _all_authors() -> QuerySet[Author]:
    return Author.objects.order_by("pk")


def query(text: str) -> Run:
    schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
    return lambda: schemas.execute(schema, text)


async def gets() -> None:
    async with ThreadSensitiveContext():  # as Django's ASGI handler opens one for each request
        await driven(_gets())


async def _gets() -> None:
    for pk in range(1, AGETS + 1):
        Author.objects.get(pk=pk)


async def agets() -> None:
    async with ThreadSensitiveContext():
        for pk in range(1, AGETS + 1):
            await Author.objects.aget(pk=pk)


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count queries, hops to the worker, and runs of the resolver's body."""
    counts = {"queries": 0, "hops": 0, "bodies": 0}
    execute, submit = CursorWrapper.execute, ThreadPoolExecutor.submit

    def counting_query(*args: Any, **kwargs: Any) -> Any:
        counts["queries"] += 1
        return execute(*args, **kwargs)

    def counting_hop(*args: Any, **kwargs: Any) -> Any:
        counts["hops"] += 1
        return submit(*args, **kwargs)

    RUNS["bodies"] = 0
    with (
        mock.patch.object(CursorWrapper, "execute", counting_query),
        mock.patch.object(ThreadPoolExecutor, "submit", counting_hop),
    ):
        yield counts
    counts["bodies"] = RUNS["bodies"]
