"""
The GraphQL side of the bare program. Import it after Django has started.

Every field is as trivial as it can be: what a tool adds per field shows best where the field itself
costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import strawberry
import strawberry_django
from django.db.models import QuerySet

from benchmarks.models import Author, Book

Extensions = Sequence[Any]
"""What ``strawberry.Schema(extensions=...)`` takes: classes and factories."""

OBJECTS = 2_000


@strawberry.type
class Plain:
    """Five default fields: no resolver of our own, graphql-core reads the attribute."""

    a: int = 1
    b: int = 2
    c: int = 3
    d: int = 4
    e: int = 5


@strawberry.type
class Resolved:
    """One resolver of each colour."""

    @strawberry.field
    def sync_value(self) -> int:
        return 1

    @strawberry.field
    async def async_value(self) -> int:
        return 1


@strawberry_django.type(Author)
class AuthorType:
    name: strawberry.auto


@strawberry_django.type(Book)
class BookType:
    title: strawberry.auto

    @strawberry_django.field
    def label(self) -> str:
        book = cast(Book, self)
        return f"{book.title} by {book.author.name}"


@strawberry.type
class Shelf:
    """A book whose author is not loaded, and a resolver that swallows the refusal."""

    book: strawberry.Private[Book]

    @strawberry.field
    def author(self) -> str | None:
        try:
            return str(self.book.author.name)
        except Exception:
            return None


@cache
def plain_objects() -> list[Plain]:
    return [Plain() for _ in range(OBJECTS)]


@cache
def resolved_objects() -> list[Resolved]:
    return [Resolved() for _ in range(OBJECTS)]


@strawberry.type
class Query:
    @strawberry.field
    def plain(self) -> list[Plain]:
        return plain_objects()

    @strawberry.field
    def resolved(self, first: int = OBJECTS) -> list[Resolved]:
        return resolved_objects()[:first]

    @strawberry_django.field
    def books(self) -> list[BookType]:
        return cast(list[BookType], books_with_author())

    @strawberry.field
    def shelves(self, count: int) -> list[Shelf]:
        return [Shelf(book=Book(pk=1, title="A book", author_id=1)) for _ in range(count)]


def books_with_author() -> QuerySet[Book]:
    """Every relation a workload reads is loaded: a workload is a program without a hit."""
    return Book.objects.select_related("author").order_by("pk")


def build_schema(extensions: Extensions) -> strawberry.Schema:
    """One schema per contender: some extensions change the schema they are given."""
    return strawberry.Schema(Query, extensions=list(extensions))


async def execute(schema: strawberry.Schema, query: str) -> dict[str, Any]:
    """Run one operation. One that failed was not measured, so it is an error here."""
    result = await schema.execute(query)
    if result.errors or result.data is None:
        raise RuntimeError(f"{query} failed: {result.errors}")
    return result.data
