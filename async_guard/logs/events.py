"""One event of the log, checked: what cannot be counted is told, what is merely odd is mended."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from async_guard.hit import DROPPED, HIT, SUMMARY, Hit
from async_guard.logs.decoding import decoded
from async_guard.logs.envelopes import Found, flat
from async_guard.logs.traits import COUNT, DETAILS, TRAITS, Traits, traits_of

READ = (HIT, SUMMARY, DROPPED)
_PREFIX = re.compile(r"^async_guard\.(?:hit|summary): (.*?)(?: \[[^\]]*\])?$", re.S)
_FINGERPRINT = re.compile(r"[0-9a-zA-Z_-]{1,64}")
"""Also of versions to come."""
_KNOWN_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
MOST = 2**63 - 1
"""A count beyond it is none: no table could hold it."""
_NANO, _MICRO, _MILLI = 1e17, 1e14, 1e11
_LATEST = 4e9
_LAST_DAY = 253402214400.0
"""Of year 9999: a later time cannot be written as a date, in whatever zone."""


class Event:
    """A hit, the summary of some, or what the guard says that it lost."""

    __slots__ = (
        *("traits", "count", "when", "is_odd", "frames", "hit_id", "ids", "amounts"),
        "_source",
    )

    def __init__(
        self,
        traits: Traits,
        count: int,
        when: float | None,
        details: tuple[Any, ...],
        source: dict[str, Any] | bytes,
        is_odd: bool = False,
    ) -> None:
        """
        Args:
            when: seconds since 1970.
            details: what it says for each of ``DETAILS``, or None.
            source: all its keys, or the line that has them.
            is_odd: the count had to be mended.
        """
        self.traits = traits
        self.count = count
        self.when = when
        self.frames, self.hit_id, *_ = details
        """The frames are JSON still, where *source* is a line."""
        self.ids = details[2:-3]
        self.amounts = details[-3:]
        self.is_odd = is_odd or traits.is_odd
        self._source = source

    @property
    def keys(self) -> dict[str, Any]:
        """All that it says."""
        if isinstance(self._source, bytes):
            self._source = flat(decoded(self._source))
        return self._source

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """How well it describes its problem: in full, and lately."""
        return self.frames is not None, self.traits.is_hit, self.when or 0.0


def read_event(found: Found, *, is_damaged: bool = False) -> Event | str:
    """
    Return the event, or why it cannot be counted.

    Args:
        is_damaged: it was put together from pieces, so it must be what this version writes.
    """
    name, keys, _ = found
    is_hit = name == HIT
    count, is_odd = (0, False) if name == DROPPED else _count(keys.get(COUNT), is_hit=is_hit)
    if count is None:
        return _lacking("count", keys)
    traits = traits_of(name, tuple(map(keys.get, TRAITS)))
    fingerprint = traits.fingerprint
    is_named = is_fingerprint(fingerprint, is_damaged=is_damaged or is_odd)
    if not is_named and (is_hit or fingerprint is not None):  # a summary may tell of many
        return _lacking("fingerprint", keys)
    return Event(traits, count, _when(found), tuple(map(keys.get, DETAILS)), keys, is_odd)


def _lacking(name: str, keys: dict[str, Any]) -> str:
    if "fingerprint" in keys and "count" in keys:  # as columns are called
        return "a row that export wrote: read the log that it was made of"
    return f"an event without a {name}"


def is_fingerprint(value: Any, *, is_damaged: bool = True) -> bool:
    return isinstance(value, str) and _is_fingerprint(value, is_damaged)


@lru_cache(4096)
def _is_fingerprint(value: str, is_damaged: bool) -> bool:
    return (_KNOWN_FINGERPRINT if is_damaged else _FINGERPRINT).fullmatch(value) is not None


def _count(value: Any, *, is_hit: bool) -> tuple[int | None, bool]:
    """Return the count, and whether it had to be mended. A hit stands for one at least."""
    if type(value) is int and (0 < value <= MOST or (value == 0 and not is_hit)):
        return value, False
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return _count(int(value), is_hit=is_hit)
    if isinstance(value, float) and value.is_integer() and value < MOST:
        return _count(int(value), is_hit=is_hit)
    return (1 if is_hit else None), True


# --- time ----------------------------------------------------------------------------------------


def _when(found: Found) -> float | None:
    for value in found.times:
        if (when := instant(value)) is not None:
            return when
    return None


def instant(value: Any) -> float | None:
    """Return seconds since 1970 for a date as text, or seconds to nanoseconds as a number."""
    if isinstance(value, str):
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            return _of_number(value)
        when = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return when if 0 <= when < _LAST_DAY else None
    return _of_number(value)


def _of_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    for least, unit in ((_NANO, 1e9), (_MICRO, 1e6), (_MILLI, 1e3)):
        if number >= least:
            number /= unit
            break
    return number if 0 < number < _LATEST else None


def dated(when: float | None, timespec: str = "seconds") -> str | None:
    """Return RFC 3339 in UTC."""
    if when is None:
        return None
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec=timespec)
    return text.replace("+00:00", "Z")


# --- the hit -------------------------------------------------------------------------------------


def as_hit(keys: dict[str, Any]) -> Hit:
    """Return the hit with what has the right type, and text that can be written."""
    known = {}
    for name, key, kind in _types():
        value = _fitting(keys.get(key), kind)
        if value is not None:
            known[name] = value
    if "frames" in known:
        known["frames"] = tuple(_frames(known["frames"]))
    if isinstance(message := known.get("message") or keys.get("async_guard.message"), str):
        known["message"] = _PREFIX.sub(r"\1", clean(message))
    return Hit(**known)


@cache
def _types() -> tuple[tuple[str, str, type], ...]:
    hints = typing.get_type_hints(Hit)
    return tuple((each.name, each.metadata["key"], _main(hints[each.name])) for each in fields(Hit))


def _main(hint: Any) -> type:
    """Return ``str`` for ``str | None``, and ``list`` for the frames."""
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    return list if typing.get_origin(hint) is tuple else hint


def _fitting(value: Any, kind: type) -> Any:
    if value is None:
        return None
    if kind is str:
        return clean(value) if isinstance(value, str) else None
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value))
    if kind is int:
        return _as_int(value)
    if kind is float:
        return as_number(value)
    return value if isinstance(value, kind) else None


def _as_int(value: Any) -> int | None:
    number = as_number(value)
    return int(number) if number is not None and abs(number) < 1e12 else None


def as_number(value: Any) -> float | None:
    """Return a finite number, also of a text, as OTLP has it."""
    if type(value) is float:
        return value if abs(value) < 1e18 else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e18 else None


def _frames(frames: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "function": clean(str(frame.get("function") or "?")),
            "file": clean(str(frame.get("file") or "?")),
            "line": _as_int(frame.get("line")),
            "in_app": frame.get("in_app") is True,
        }
        for frame in frames[:30]
        if isinstance(frame, dict)
    ]


def clean(text: str) -> str:
    """Return *text* without what cannot be written: lone surrogates, and control characters."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
