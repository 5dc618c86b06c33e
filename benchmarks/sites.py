"""
What hits, and whose code catches the refusal without a word. Import it after Django has started.

A site is a coroutine function that hits so many times. The bare exception is the same code with no
guard installed: Django builds the query before it refuses, so that alone takes its time.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import schemas
from benchmarks.models import Book
from benchmarks.schemas import Extensions

Site = Callable[[int], Awaitable[object]]
"""Hits as often as it is told to."""
Place = Callable[[Book], object]
"""One line that hits."""


def query_site(extensions: Extensions) -> Site:
    async def hit(times: int) -> None:
        for _ in range(times):
            try:
                Book.objects.count()
            except Exception:
                continue

    return hit


def relation_site(extensions: Extensions) -> Site:
    book = a_book()

    async def hit(times: int) -> None:
        for _ in range(times):
            try:
                book.author  # noqa: B018
            except Exception:
                continue

    return hit


def resolver_site(extensions: Extensions) -> Site:
    """The resolvers of one operation; it hits in all of them, and answers null."""
    schema = schemas.build_schema(extensions)

    async def hit(times: int) -> None:
        await schemas.execute(schema, f"{{ shelves(count: {times}) {{ author }} }}")

    return hit


SITES: dict[str, Callable[[Extensions], Site]] = {
    "query": query_site,
    "relation": relation_site,
    "resolver": resolver_site,
}

EXPRESSIONS = {"query": "Book.objects.count()", "relation": "book.author"}
"""What a written place hits with. A resolver belongs to a schema, so it is not written."""

_PLACE = "def place_{number}(book):\n    return {expression}\n\n\n"


def a_book() -> Book:
    """A book whose author is not loaded, and never will be: the load is refused."""
    return Book(pk=1, title="A book", author_id=1)


def write_places(folder: Path, site: str, count: int) -> list[Place]:
    """Write a module of functions that each hit once: as many fingerprints."""
    path = folder / f"{site}_places.py"
    places = (_PLACE.format(number=n, expression=EXPRESSIONS[site]) for n in range(count))
    path.write_text("from benchmarks.models import Book\n\n\n" + "".join(places))
    module = _load(path)
    return [getattr(module, f"place_{number}") for number in range(count)]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def visit(places: Sequence[Place]) -> Site:
    """A site that hits at so many of the *places*, one after the other."""
    book = a_book()

    async def hit(times: int) -> None:
        for place in places[:times]:
            try:
                place(book)
            except Exception:
                continue

    return hit
