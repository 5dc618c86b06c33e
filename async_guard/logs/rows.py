"""Events as rows with the columns that a ``Hit`` has, for tables and other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from async_guard.hit import HIT, SUMMARY, Hit
from async_guard.logs.accounts import Accounts
from async_guard.logs.events import Event, as_hit, dated
from async_guard.logs.filters import Filters
from async_guard.logs.reading import Part, read_part
from async_guard.logs.sources import Source

Row = dict[str, Any]
_TYPES = {"str": "VARCHAR", "int": "BIGINT", "bool": "BOOLEAN", "float": "DOUBLE"}


@cache
def columns() -> dict[str, str]:
    """Return the names and SQL types of the columns."""
    hints = get_type_hints(Hit)
    of_hit = {each.name: _sql_type(str(hints[each.name])) for each in fields(Hit)}
    return {"timestamp": "TIMESTAMP", "event": "VARCHAR", "file": "VARCHAR", **of_hit}


def _sql_type(hint: str) -> str:
    return next(
        (sql for name, sql in _TYPES.items() if name in hint and "dict" not in hint), "JSON"
    )


def row(event: Event, file: str) -> Row:
    """Return *event* as a row; counts and outcome as the reports have them."""
    hit = as_hit(event.keys)
    found: Row = {name: getattr(hit, name) for name in columns() if hasattr(hit, name)}
    found |= {
        "timestamp": dated(event.when, timespec="microseconds"),
        "event": HIT if event.traits.is_hit else SUMMARY,
        "file": file,
        "count": event.count,
        "outcome": event.traits.outcome,
        "fingerprint": event.traits.fingerprint,
        "frames": list(hit.frames),
    }
    return {name: found.get(name) for name in columns()}


def read_rows(
    sources: Iterable[Source], filters: Filters, tell: Callable[[Row], object]
) -> Accounts:
    """Read *sources* in their order, and tell a row per event that the filters admit."""
    accounts = Accounts()
    for source in sources:
        accounts.files += 1

        def tell_row(event: Event, name: str = source.name) -> None:
            if event.count and filters.admit_row(event):
                tell(row(event, name))

        read_part(Part(source), accounts, tell_row)
    return accounts


def dumped(found: Row) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(found, ensure_ascii=False) + "\n"
