"""
What is measured: programs that do nothing wrong, so that a tool has nothing to report.

A workload's ``build`` gets the extensions of a contender and returns the coroutine function that is
one timed run. Models and schemas are imported in there, after Django has started: the names and the
aims are needed before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.schemas import Extensions

Run = Callable[[], Awaitable[object]]

AGETS = 200
CACHED_READS = 100_000


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One program without a hit."""

    name: str
    what: str
    """The program in one line, for the legend below the table."""
    aim: float
    """The ratio over the bare program that async_guard may cost."""
    is_graphql: bool
    """Whether a schema extension can make a difference at all."""
    build: Callable[[Extensions], Run]


def _graphql(query: str) -> Callable[[Extensions], Run]:
    def build(extensions: Extensions) -> Run:
        from benchmarks import schemas

        schema = schemas.build_schema(extensions)
        return lambda: schemas.execute(schema, query)

    return build


def _aget(extensions: Extensions) -> Run:
    from benchmarks.models import Book

    async def run() -> None:
        for pk in range(1, AGETS + 1):
            await Book.objects.aget(pk=pk)

    return run


def _cached_relation(extensions: Extensions) -> Run:
    from benchmarks.models import Author, Book

    book = Book(title="A book", author=Author(name="An author"))

    async def run() -> None:
        for _ in range(CACHED_READS):
            book.author  # noqa: B018

    return run


WORKLOADS = (
    Workload(
        name="default_fields",
        what="one operation, 2,000 objects with 5 default fields each",
        aim=1.02,
        is_graphql=True,
        build=_graphql("{ plain { a b c d e } }"),
    ),
    Workload(
        name="sync_resolvers",
        what="one operation, 2,000 trivial sync resolvers",
        aim=1.05,
        is_graphql=True,
        build=_graphql("{ resolved { syncValue } }"),
    ),
    Workload(
        name="async_resolvers",
        what="one operation, 2,000 trivial async resolvers",
        aim=1.05,
        is_graphql=True,
        build=_graphql("{ resolved { asyncValue } }"),
    ),
    Workload(
        name="aget",
        what="200 awaited Model.objects.aget(), one after the other",
        aim=1.02,
        is_graphql=False,
        build=_aget,
    ),
    Workload(
        name="django_field",
        what="one operation, 500 rows, a strawberry_django.field resolver each, relation loaded",
        aim=1.05,
        is_graphql=True,
        build=_graphql("{ books { label } }"),
    ),
    Workload(
        name="cached_relation",
        what="100,000 reads of a foreign key that is loaded already",
        aim=1.00,
        is_graphql=False,
        build=_cached_relation,
    ),
)

BY_NAME = {workload.name: workload for workload in WORKLOADS}
