"""
What others wrap around our events, and how they change them.

An event is found by its value, ``async_guard.hit``, wherever it stands and whatever the key is
called. So an envelope needs no table of its own unless it is more than objects in objects:
docker's json-file, journald and CloudWatch hold the event as text, GCP as an object, CRI and
compose put words before it, OTLP makes lists of keys and values out of it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from async_guard.hit import HIT, SUMMARY
from async_guard.logs.decoding import decoded_text

OURS = "async_guard"
DEEPEST = 16
CRI = re.compile(rb"^(\S+) (stdout|stderr) ([FP])(?::\S*)? ")
TIME_KEYS = (
    *("timestamp", "time", "@timestamp", "ts", "asctime", "Timestamp", "datetime"),
    *("timeUnixNano", "observedTimeUnixNano", "__REALTIME_TIMESTAMP", "receiveTimestamp"),
)
_NAME = re.compile(r"async_guard\.[a-z_]+")
_SENTENCE = re.compile(r"(async_guard\.(?:hit|summary)): ")
NAMED = re.compile(r"async_guard\.(?:hit|summary)(?![\w.])")
"""How a line for people names an event, whoever wrote it."""
_KEY = f"{OURS}."
_TELLING = ("timestamp", *(f"{_KEY}{key}" for key in ("fingerprint", "outcome", "count")))
"""What tells the summaries of one object apart."""
_ANY_VALUE = {
    "stringValue",
    "intValue",
    "doubleValue",
    "boolValue",
    "arrayValue",
    "kvlistValue",
    "bytesValue",
}


class Found(NamedTuple):
    """An event as it was logged: flat keys, and what is known of it from around it."""

    name: str
    keys: dict[str, Any]
    times: tuple[Any, ...]
    """When it was, as the event and its envelopes say; the innermost first."""


class Text(NamedTuple):
    """A text in an envelope that may be an event once more."""

    text: str
    times: tuple[Any, ...]


class Around(NamedTuple):
    """What the objects around an object say."""

    name: str = ""
    times: tuple[Any, ...] = ()
    resource: dict[str, Any] = {}  # noqa: RUF012  never changed


def unwrap(value: Any, around: Around = Around(), depth: int = 0) -> Iterator[Found | Text]:  # noqa: B008
    """Yield the events in *value*, and the texts that may hold some."""
    if depth > DEEPEST:
        return
    if isinstance(value, dict):
        yield from _unwrap_object(value, around, depth)
    elif isinstance(value, list):
        if message := _as_bytes(value):
            yield Text(message, around.times)
            return
        for item in value:
            yield from unwrap(item, around, depth + 1)
    elif isinstance(value, str) and OURS in value and _may_hold_event(value):
        yield Text(value, around.times)


def unwrapped(value: Any, times: tuple[Any, ...] = ()) -> Found | None:
    """Return what a line without an envelope is, the usual one; None: look closer."""
    event = value.get("event") if isinstance(value, dict) else None
    if not (isinstance(event, str) and event in (HIT, SUMMARY)):
        return None
    keys = flat(value) if dict in map(type, value.values()) else value
    when = value.get("timestamp")
    mine = (when,) if isinstance(when, str) else tuple(_times(value))
    return Found(event, keys, (*mine, *times))


def _unwrap_object(value: dict[str, Any], around: Around, depth: int) -> Iterator[Found | Text]:
    if found := unwrapped(value, around.times):
        yield found
        return
    if "attributes" in value and isinstance(value["attributes"], list):
        value = _otlp_record(value, around.resource)
    around = Around(_name(value) or around.name, (*_times(value), *around.times), around.resource)
    if any(key == OURS or key.startswith(_KEY) for key in value):
        keys = flat(value)
        if name := _name(keys) or around.name or _name_of_unnamed(keys):
            yield Found(name, keys, around.times)
        return
    if isinstance(value.get("resource"), dict):
        around = around._replace(resource={**around.resource, **_resource(value["resource"])})
    yield from _without_copies(
        unwrap(item, around, depth + 1)
        for item in value.values()
        if isinstance(item, dict | list | str)
    )


def _without_copies(items: Iterable[Iterable[Found | Text]]) -> Iterator[Found | Text]:
    """Yield what *items* hold, but once what shippers keep twice: as text, parsed, or both."""
    last: list[Found | Text] = []
    told: set[Hashable] = set()
    for item in items:
        if not (new := list(item)):
            continue
        for each in last:  # now only: most envelopes hold one thing
            told.update(_marks(each))
        last = [each for each in new if told.isdisjoint(_marks(each))] if told else new
        yield from last


def _marks(found: Found | Text) -> tuple[Hashable, ...]:
    """Return what *found* and a copy of it have in common."""
    if isinstance(found, Found):
        return _marks_of_event(found)
    text = _event_in(found)
    try:
        inner = next(unwrap(decoded_text(text)), None) if text.startswith("{") else None
    except ValueError:
        inner = None
    return (text, *(_marks_of_event(inner) if isinstance(inner, Found) else ()))


def _marks_of_event(found: Found) -> tuple[Hashable, ...]:
    hit_id = found.keys.get("async_guard.hit_id")
    if isinstance(hit_id, str):
        return (("async_guard.hit_id", hit_id),)
    return (repr((found.name, *(found.keys.get(key) for key in _TELLING))),)


def _event_in(found: Text) -> str:
    """Return the text from where the event begins: a copy may lack the prefix."""
    named = NAMED.search(found.text)
    begins = [found.text.find("{"), named.start() if named else -1]
    return found.text[min((at for at in begins if at >= 0), default=0) :].strip()


def _times(value: dict[str, Any]) -> Iterator[Any]:
    for key in TIME_KEYS:
        if isinstance(found := value.get(key), str | int | float) and not isinstance(found, bool):
            yield found


def _name(value: dict[str, Any]) -> str:
    """Return the event's name from the values of *value*, a hit's before any other."""
    names = [item for item in value.values() if isinstance(item, str) and OURS in item]
    if HIT in names or SUMMARY in names:
        return HIT if HIT in names else SUMMARY
    for name in names:
        if match := _SENTENCE.match(name):  # plain logging: the name, then the sentence
            return match[1]
    return next((name for name in names if _NAME.fullmatch(name)), "")


def _name_of_unnamed(keys: dict[str, Any]) -> str:
    """An event whose name somebody took out is known by what only it has."""
    if f"{_KEY}outcome" in keys and f"{_KEY}fingerprint" in keys:
        return HIT if f"{_KEY}hit_id" in keys else SUMMARY
    return ""


def _may_hold_event(text: str) -> bool:
    return "{" in text or NAMED.search(text) is not None


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Return *value* with dotted keys where it has objects in objects."""
    found: dict[str, Any] = {}
    _flatten(value, "", found, 0)
    return found


def _flatten(value: dict[str, Any], prefix: str, found: dict[str, Any], depth: int) -> None:
    for key, item in value.items():
        if isinstance(item, dict) and depth < DEEPEST:
            _flatten(item, f"{prefix}{key}.", found, depth + 1)
        else:
            found.setdefault(prefix + key, item)


def _as_bytes(value: list[Any]) -> str:
    """Return the text that journald writes as a list of numbers."""
    if len(value) < len(OURS) or not all(type(item) is int and 0 <= item < 256 for item in value):
        return ""
    text = bytes(value).decode("utf-8", "replace")
    return text if OURS in text and _may_hold_event(text) else ""


# --- OTLP --------------------------------------------------------------------------------------


def _otlp_record(record: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    """Return a log record as one object: resource, attributes and body."""
    rest = {key: item for key, item in record.items() if key not in ("attributes", "body")}
    body = _plain(record.get("body"))
    fields = body if isinstance(body, dict) else {"body": body}
    return {**resource, **rest, **fields, **_pairs(record["attributes"])}


def _resource(value: dict[str, Any]) -> dict[str, Any]:
    attributes = value.get("attributes")
    if isinstance(attributes, dict):
        return attributes
    return _pairs(attributes) if isinstance(attributes, list) else {}


def _pairs(attributes: list[Any]) -> dict[str, Any]:
    return {
        str(each["key"]): _plain(each.get("value"))
        for each in attributes
        if isinstance(each, dict) and "key" in each
    }


def _plain(value: Any, depth: int = 0) -> Any:
    """Return what an ``AnyValue`` stands for."""
    if not isinstance(value, dict) or len(value) != 1 or depth > DEEPEST:
        return value
    [(kind, held)] = value.items()
    if kind not in _ANY_VALUE:
        return value
    if kind == "arrayValue" and isinstance(held, dict):
        items = held.get("values")
        return [_plain(item, depth + 1) for item in items] if isinstance(items, list) else []
    if kind == "kvlistValue" and isinstance(held, dict):
        items = held.get("values")
        return _pairs(items) if isinstance(items, list) else {}
    return held
