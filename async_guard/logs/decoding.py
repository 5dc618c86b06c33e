"""JSON in one set of semantics; msgspec, where it is installed, only makes it faster."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

_MOST_DIGITS = 400
_BROKEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|)$")


def _whole(digits: str) -> Any:
    """Read an integer; one of thousands of digits is refused by Python, and no count."""
    return int(digits) if len(digits) < _MOST_DIGITS else float("inf")


DECODER = json.JSONDecoder(strict=False, parse_int=_whole)
"""Not strict: a control character in a text is no reason to lose a hit."""
try:
    msgspec: Any = importlib.import_module("msgspec")
except ImportError:
    msgspec = None


def decoded(line: bytes) -> Any:
    """
    Return what *line* says.

    Raises:
        ValueError: it is no JSON.
    """
    if msgspec is not None:
        try:
            return msgspec.json.decode(line)
        except Exception:  # stricter: lone surrogates, control characters, NaN
            pass
    return decoded_text(line.decode("utf-8"))


def decoded_text(text: str) -> Any:
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def decoded_at(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins there, and where it ends."""
    try:
        return DECODER.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def without_doubles(text: str) -> Any:
    """Decode *text*, but refuse an object with a key twice: it was put together wrongly."""
    return json.JSONDecoder(strict=False, parse_int=_whole, object_pairs_hook=_unique).decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


# --- what was cut off ------------------------------------------------------------------------

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)


def as_far_as_it_goes(text: str) -> dict[str, Any] | None:
    """Return the object that begins at the start of *text*, with the pairs that are whole."""
    closers: list[str] = []
    good, tail, previous = 0, "", ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "{[":
            closers.append("}" if token == "{" else "]")
        elif token in "}]" and (not closers or closers.pop() != token):
            break
        if not closers:
            break
        if token == "," and previous not in ",:{[":
            good, tail = match.start(), "".join(reversed(closers))
        previous = token
    if not good:
        return None
    try:
        found = decoded_text(text[:good] + tail)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def unescaped(text: str) -> str | None:
    """Return what the inside of a JSON string says, also where its end is missing."""
    try:
        found = decoded_text(f'"{_BROKEN_ESCAPE.sub("", text)}"')
    except ValueError:
        return None
    return found if isinstance(found, str) else None
