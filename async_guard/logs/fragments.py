"""
Lines that are no JSON any more: two writers on one line, torn and cut lines, garbage between.

What is whole in them is found by trying every place where an object may begin. What is left over
are fragments; one that begins an event waits for the next lines, because the other writer's line
may stand between its two halves.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from async_guard.logs.decoding import (
    as_far_as_it_goes,
    decoded_at,
    decoded_text,
    unescaped,
    without_doubles,
)
from async_guard.logs.envelopes import OURS, Found, Text, unwrap

PATIENCE = 8
"""So many lines may stand between the halves of a torn one."""
BEGINNING = re.compile(r'\{\s*"|\[\s*\{\s*"')
_EVIDENCE = re.compile(
    r'"async_guard\.[a-z_.]+"\s*:|:\s*"async_guard\.(?:hit|summary)"|[:,]\s*"async_guard[a-z_.]*$'
)
_ONCE = (
    re.compile(r':\s*"async_guard\.(?:hit|summary)"'),
    *(
        re.compile(rf'async_guard\.{key}"\s*:')
        for key in ("schema_version", "version", "kind", "outcome", "fingerprint", "count", "rule")
    ),
    re.compile(r'"code\.file\.path"\s*:'),
)
"""What an event has exactly once."""
_LITERAL = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)("|\\?$)', re.S)
_INNARDS = re.compile(r'"\s*[:,]|[:,]\s*"')
MOST_WORK = 50_000_000
"""Characters that are looked at in vain, for one line."""
MOST_TEXTS = 4
MOST_PAIRS = 20
_PAIR = re.compile(r'(?:^|,)\s*("[\w.@-]+"\s*:)')


@dataclass(slots=True, eq=False)
class Fragment:
    """A piece of text that is no whole object."""

    offset: int
    text: str
    more: list[tuple[str, tuple[Fragment, ...]]] = field(default_factory=list)
    """The text with pieces of later lines that may belong to it."""
    age: int = 0
    is_middle: bool = False
    """It may go on with another one, and is accounted for where it does not."""

    @property
    def variants(self) -> list[tuple[str, tuple[Fragment, ...]]]:
        """The texts that it may begin, and the pieces in each; the longest first."""
        return [*reversed(self.more), (self.text, ())]

    @property
    def begins(self) -> bool:
        """It has the beginning of an object, and not its end."""
        match = BEGINNING.search(self.text)
        if match is None:
            return self.text.rstrip().endswith("{")
        try:
            decoded_at(self.text, match.start())
        except ValueError:
            return True
        return False

    @property
    def is_cut(self) -> bool:
        """The end is what is missing."""
        match = BEGINNING.search(self.text)
        return match is not None and is_cut(self.text[match.start() :])

    @property
    def is_ours(self) -> bool:
        return _EVIDENCE.search(self.text) is not None

    @property
    def is_part(self) -> bool:
        """It looks like the inside of an object."""
        return _INNARDS.search(self.text) is not None

    def go_on(self, piece: Fragment) -> None:
        """Remember that *piece* may be what follows."""
        self.more += [(text + piece.text, (*parts, piece)) for text, parts in self.variants]
        del self.more[MOST_TEXTS:]


def events_in(fragments: Iterable[Fragment]) -> int:
    """Return how many events these are parts of: so many as what each has once is in them."""
    texts = [fragment.text for fragment in fragments]
    return max(sum(len(once.findall(text)) for text in texts) for once in _ONCE)


def is_cut(text: str) -> bool:
    """Tell whether *text* would be JSON if only it went on."""
    try:
        decoded_text(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
    except ValueError:
        return False
    return False


class Whole(NamedTuple):
    """An object that was found in a damaged line."""

    found: list[Found | Text]
    lost: int
    """Events that were mixed up with those found: two halves may happen to be one object."""


def split(text: str) -> Iterator[str | Whole]:
    """Yield what *text* is made of: whole objects with events, and the text between them."""
    begin = at = work = 0
    while work < MOST_WORK and (match := BEGINNING.search(text, at)):
        at = match.start()
        try:
            value, end = decoded_at(text, at)
        except ValueError as error:
            work += getattr(error, "pos", at) - at + 10_000
            at += 1
            continue
        if found := list(unwrap(value)):
            yield text[begin:at]
            events = events_in((Fragment(0, text[at:end]),))
            yield Whole(found, max(0, events - len(found)))
            begin = end
        at = end
    yield text[begin:]


def escaped_texts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the JSON strings in *text* that may be an event of ours, and whether they are whole."""
    for match in _LITERAL.finditer(text):
        if OURS in match[1] and '\\"' in match[1] and (inner := unescaped(match[1])):
            yield inner, match[2] == '"'


def joined(head: str, tail: str) -> list[Found | Text]:
    """Return the events of the object that the halves make, if they make one."""
    text = head + tail
    begin = BEGINNING.search(text)
    if begin is None:
        return []
    try:
        return list(unwrap(without_doubles(text[begin.start() :])))
    except (ValueError, RecursionError):
        return []


def ending(text: str) -> list[Found | Text]:
    """Return the event that the end of a line still tells."""
    for match in itertools.islice(_PAIR.finditer(text), MOST_PAIRS):
        try:
            value, _ = decoded_at("{" + text[match.start(1) :], 0)
        except ValueError:
            continue
        return list(unwrap(value))
    return []


def beginning(text: str) -> list[Found | Text]:
    """Return the event that a cut line began to tell."""
    begin = BEGINNING.search(text)
    found = as_far_as_it_goes(text[begin.start() :]) if begin else None
    return list(unwrap(found)) if found else []
