"""
The usual line by a short cut: one event without an envelope, of which only what is counted is read.

What is not surely such a line is left to the reader, so the answer is the same. Needs msgspec.
"""

from __future__ import annotations

from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from async_guard.hit import HIT, SUMMARY, event_keys
from async_guard.logs import decoding
from async_guard.logs.events import MOST, Event, instant, is_fingerprint
from async_guard.logs.traits import COUNT, DETAILS, TRAITS, Traits, traits_of

LONGEST = 1 << 14
"""Bytes of a line: what is remembered must not grow with what a log may hold."""
_FRAMES, *_ = DETAILS


def _objects_of(key: str) -> list[str]:
    """Return the keys below which a log with objects instead of dots has *key*."""
    parts = key.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts))]


_ELSEWHERE = ("log", *sorted({each for key in (*TRAITS, *DETAILS) for each in _objects_of(key)}))
"""With one of these it is an envelope, or its keys stand in objects."""
_SHARED = ("event", *TRAITS, *_ELSEWHERE)
_OWN = (COUNT, "timestamp", *DETAILS)
_KEYS = (
    *("timestamp", "level", "event", "logger"),
    *(key for _, key in event_keys()),
    *_ELSEWHERE,
)
"""In the order of a line: msgspec looks for each key beside the one before."""
_shared_of = itemgetter(*map(_KEYS.index, _SHARED))
_own_of = itemgetter(*map(_KEYS.index, _OWN))


def plain_event(line: bytes) -> Event | None:
    """Return the event that *line* is; None: look closer."""
    if decoding.msgspec is None or len(line) > LONGEST or not line.startswith(b"{"):
        return None
    if not line.isascii():  # a text that is skipped is not checked for UTF-8
        return None
    try:
        values = _values(line)
        traits = _plain_traits(_shared_of(values))
    except Exception:  # no JSON, or a list where a name should be
        return None
    count, when, frames, *details = _own_of(values)
    if traits is None or type(count) is not int or not 0 < count <= MOST or type(when) is not str:
        return None
    frames = bytes(frames) or None
    if frames and not frames.startswith(b"["):
        return None
    return Event(traits, count, instant(when), (frames, *details), line)


@lru_cache(1024)
def _plain_traits(shared: tuple[Any, ...]) -> Traits | None:
    name, *values = shared[: 1 + len(TRAITS)]
    is_elsewhere = any(each is not None for each in shared[1 + len(TRAITS) :])
    if is_elsewhere or name not in (HIT, SUMMARY) or not is_fingerprint(values[0]):
        return None
    return traits_of(name, tuple(values))


def _values(line: bytes) -> tuple[Any, ...]:
    """Return what *line* says for each of ``_KEYS``, or None; the frames as JSON."""
    decode, as_tuple = _decoder()
    values: tuple[Any, ...] = as_tuple(decode(line))
    return values


@cache
def _decoder() -> tuple[Any, Any]:
    """Return functions that decode a line to an object, and the object to a tuple."""
    msgspec = decoding.msgspec
    raw = msgspec.Raw
    names = {f"key_{number}": key for number, key in enumerate(_KEYS)}
    fields = [
        (name, raw, raw()) if key == _FRAMES else (name, Any, None) for name, key in names.items()
    ]
    plain = msgspec.defstruct("Plain", fields, rename=names, gc=False)
    return msgspec.json.Decoder(plain).decode, msgspec.structs.astuple
