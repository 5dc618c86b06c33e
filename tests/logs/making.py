"""Logs made by hand: events like the golden one, and what others wrap around them."""

import json
from pathlib import Path
from typing import Any

from async_guard.logs.filters import Filters
from async_guard.logs.reading import Result, read
from async_guard.logs.render import as_json
from async_guard.logs.report import make_report
from async_guard.logs.sources import find_sources

GOLDEN = Path(__file__).parent.parent / "golden" / "event-1.0.json"
FOREIGN = '{"timestamp": "2026-01-31T12:00:00Z", "event": "request_finished", "code": 200}'


def event(number: int = 1, **changed: Any) -> dict[str, Any]:
    """Return a hit of its own; ``count=5`` changes ``async_guard.count``."""
    found = json.loads(GOLDEN.read_text("utf-8"))
    for key in [each for each in found if each.startswith("async_guard.retry.")]:
        del found[key]  # not every hit was retried
    found["async_guard.hit_id"] = f"{number:032x}"
    found["async_guard.fingerprint"] = f"{number:016x}"
    for key, value in changed.items():
        full = key.replace("__", ".")
        found[full if full in found and "." in full else f"async_guard.{full}"] = value
    return found


def line(number: int = 1, **changed: Any) -> str:
    return json.dumps(event(number, **changed))


def summary(number: int = 1, count: int = 10) -> str:
    found = event(number, count=count) | {"event": "async_guard.summary", "level": "info"}
    for key in ("async_guard.hit_id", "async_guard.frames", "request_id", "trace_id"):
        del found[key]
    return json.dumps(found)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return objects in objects instead of dotted keys."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        if isinstance(place.get(last), dict):
            place[last]["value"] = value
        else:
            place[last] = value
    return found


def read_bytes(folder: Path, data: bytes, name: str = "app.log", **options: Any) -> Result:
    """Write *data* to a file, and read it."""
    path = folder / name
    path.write_bytes(data)
    return read(find_sources([str(path)]), options.pop("filters", Filters()), **options)


def counts(result: Result) -> dict[int, int]:
    """Return the hits by the number that the event was made with."""
    return {int(tally.fingerprint, 16): tally.count for tally in result.tallies}


def as_dict(result: Result) -> dict[str, Any]:
    """Return all that a report tells, but when it was made."""
    found = as_json.as_dict(make_report(result))
    del found["made_at"]
    return found
