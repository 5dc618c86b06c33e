"""
The third table: whether memory stays flat over operations that do not hit.

An operation is one thing that the guard could have noticed. A request's worth of them is a task of
its own, as under ASGI: one GraphQL operation of 490 sync resolvers, 490 reads of a loaded relation,
20 awaited queries. What Python has allocated after the first tenth of them (caches are warm by
then) is compared with what it has at the end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import child, contenders, project
from benchmarks.contenders import BARE, Contender

RESOLVERS = 490
READS = 490
AGETS = 20
PER_TASK = RESOLVERS + READS + AGETS

AIM_BYTES = 16 * 1024
"""What may be left behind over the bare program, after however many operations."""

Request = Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How many bytes more there are after many operations than after a tenth of them."""

    contender: str
    operations: int
    early_bytes: int
    late_bytes: int

    @property
    def bytes(self) -> int:
        return self.late_bytes - self.early_bytes


def measure(operations: int, progress: Callable[[str], None]) -> Iterator[Growth]:
    """Let the bare program and the guarded one run, each in a fresh process."""
    for contender in (BARE, contenders.BY_NAME["async_guard"]):
        progress(f"memory: {contender.name}, {operations:,} operations")
        yield Growth(**child.ask("memory", contender.name, str(operations)))


# --- in the fresh process --------------------------------------------------------------------


def _build_request(contender: Contender) -> Request:
    from benchmarks import schemas
    from benchmarks.models import Author, Book

    schema = schemas.build_schema(contender.extensions())
    query = f"{{ resolved(first: {RESOLVERS}) {{ syncValue }} }}"
    book = Book(title="A book", author=Author(name="An author"))

    async def request() -> None:
        await schemas.execute(schema, query)
        for _ in range(READS):
            book.author  # noqa: B018
        for pk in range(1, AGETS + 1):
            await Book.objects.aget(pk=pk)

    return request


def _allocated_after(request: Request, runner: asyncio.Runner, tasks: int) -> int:
    for _ in range(tasks):
        runner.run(request())  # type: ignore[arg-type]
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _grow(contender: Contender, operations: int) -> dict[str, Any]:
    request, tasks = _build_request(contender), operations // PER_TASK
    with asyncio.Runner() as runner, contender.active():
        tracemalloc.start()
        early = _allocated_after(request, runner, tasks // 10)
        late = _allocated_after(request, runner, tasks - tasks // 10)
    return {
        "contender": contender.name,
        "operations": tasks * PER_TASK,
        "early_bytes": early,
        "late_bytes": late,
    }


def main(name: str, operations: str) -> None:
    """Print what one contender allocates."""
    contender = contenders.BY_NAME[name]
    project.set_up(*contender.apps)
    print(json.dumps(_grow(contender, int(operations))))


if __name__ == "__main__":
    main(*sys.argv[1:])
