"""
How late the event loop is while slow queries run: under resume, and with the asynchronous ORM.

The queries sleep in PostgreSQL (``pg_sleep``), so that nothing but waiting is measured. A ticker
asks to be woken every millisecond; how much later than that it is woken is the loop's latency.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import OperationalError, connection, connections

from benchmarks import project
from benchmarks.child import ask

QUERIES = 200
QUERY_S = 0.01
TICK_S = 0.001
AIM = 1.20
AIM_BEYOND_MS = 5.0

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": 5432,
        "TEST": {"NAME": "async_guard_benchmarks"},
    }
}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The 99th percentile of the lateness of the ticks, in ms: medians of the rounds."""

    resume_ms: float
    hand_ms: float
    ratio: float
    worst_beyond_ms: float
    """How much later resume was than the hand fix of the same round, at most."""


def measure(rounds: int, progress: Callable[[str], None]) -> Latency | str:
    """Measure in a process of its own. Return why not, where there is no PostgreSQL."""
    progress("latency")
    found = ask("latency", str(rounds))
    return found if isinstance(found, str) else Latency(**found)


# --- in the process that is measured -----------------------------------------------------------


def main(rounds: str = "1") -> dict[str, Any] | str:
    project.configure("async_guard", databases=DATABASES)
    logging.disable(logging.CRITICAL)
    try:
        with _database():
            return asdict(asyncio.run(_rounds(int(rounds))))
    except (OperationalError, ImportError) as error:
        return f"no PostgreSQL at 127.0.0.1:5432: {str(error).splitlines()[0]}"


@contextmanager
def _database() -> Iterator[None]:
    from benchmarks.models import Author

    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        Author.objects.create(pk=1, name="Ada")
        yield
    finally:
        connection.creation.destroy_test_db("postgres", verbosity=0)


async def _rounds(rounds: int) -> Latency:
    resume_ms, hand_ms = [], []
    for number in range(rounds):
        for side in (_resumed, _by_hand) if number % 2 else (_by_hand, _resumed):
            found = await _p99_ms(side)
            (resume_ms if side is _resumed else hand_ms).append(found)
    return Latency(
        resume_ms=statistics.median(resume_ms),
        hand_ms=statistics.median(hand_ms),
        ratio=statistics.median(a / b for a, b in zip(resume_ms, hand_ms, strict=True)),
        worst_beyond_ms=max(a - b for a, b in zip(resume_ms, hand_ms, strict=True)),
    )


async def _p99_ms(work: Callable[[], Awaitable[None]]) -> float:
    late: list[float] = []
    async with ThreadSensitiveContext():  # as Django's ASGI handler opens one for each request
        ticker = asyncio.create_task(_tick(late))
        await work()
        ticker.cancel()
        await sync_to_async(connections.close_all)()
    return statistics.quantiles(late, n=100)[98] * 1000


async def _tick(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late.append(time.perf_counter() - due)


def _slow() -> Any:
    from django.db.models import FloatField, Func, TextField, Value
    from django.db.models.functions import Cast

    from benchmarks.models import Author

    seconds = Value(QUERY_S, output_field=FloatField())
    slept = Func(seconds, function="pg_sleep", output_field=TextField())
    return Author.objects.annotate(slept=Cast(slept, TextField()))


async def _resumed() -> None:
    from django.test import override_settings

    from async_guard import guarded, retrying
    from async_guard.retry.resume import driven

    with (
        override_settings(ASYNC_GUARD={"ENABLED": False, "BURST": 1}),
        guarded(),
        retrying("resume"),
    ):
        await driven(_gets())


async def _gets() -> None:
    for _ in range(QUERIES):
        _slow().get(pk=1)


async def _by_hand() -> None:
    for _ in range(QUERIES):
        await _slow().aget(pk=1)


if __name__ == "__main__":
    import json

    print(json.dumps(main(*sys.argv[1:])))
