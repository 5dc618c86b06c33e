"""
Lines to events: whole ones, those in pieces (CRI, docker), and what damage left of them.

One reader reads the lines of one source in order, because a piece belongs to what stands before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from async_guard.logs.accounts import Accounts
from async_guard.logs.decoding import decoded, decoded_text
from async_guard.logs.envelopes import CRI, NAMED, OURS, Found, Text, unwrap, unwrapped
from async_guard.logs.events import READ, Event, is_fingerprint, read_event
from async_guard.logs.fragments import (
    BEGINNING,
    PATIENCE,
    Fragment,
    beginning,
    ending,
    escaped_texts,
    events_in,
    is_cut,
    joined,
    split,
)
from async_guard.logs.plain import plain_event
from async_guard.logs.pretty import Pretty

BOM = b"\xef\xbb\xbf"
LONGEST_PIECES = 24 << 20
DEEPEST = 6
MIXED_UP = "an event mixed up with another"
_ESSENTIAL = {"async_guard.fingerprint", "async_guard.count", "async_guard.outcome"}
_SENTENCE = re.compile(
    r"(?P<name>async_guard\.(?:hit|summary)): |"
    r" \[outcome=(?P<outcome>\w+)(?: rule=(?P<rule>AG\d+))? fingerprint=(?P<fingerprint>\w+)"
    r" count=(?P<count>\d+)\]"
)
"""How a line that plain ``logging`` writes for people begins, and how it ends."""
_PLACE = re.compile(r"\((?P<path>[^()]+):(?P<line>\d+)\)\.\s*(?P<advice>.*)")


class Reader:
    """Reads the lines that the scanner cut out of one source."""

    def __init__(
        self,
        name: str,
        accounts: Accounts,
        tell: Callable[[Event], None],
        before: Callable[[int], bytes] = lambda offset: b"",
    ) -> None:
        """
        Args:
            before: returns some of what stands before the line at an offset.
        """
        self._name = name
        self._before = before
        self._accounts = accounts
        self._tell = tell
        self._pieces: dict[str, list[tuple[int, str]]] = {}
        """What a container runtime cut into several lines, by stream."""
        self._torn: list[Fragment] = []
        self._pretty: Pretty | None = None
        self._offset = 0
        self._is_ours = False
        self._is_damaged = False

    def wants_next(self) -> bool:
        """Tell whether the next line is needed, whatever is in it."""
        return bool(self._torn or self._pieces or self._pretty)

    def feed(self, offset: int, line: bytes) -> None:
        """Read the line that begins at *offset*."""
        self._offset, self._is_ours, self._is_damaged = offset, False, False
        if not self.wants_next() and (plain := plain_event(line)):
            self._accounts.ours += 1
            self._count(plain)
            return
        self._age()
        told = self._told()
        if line.strip() and not self._is_pretty(line):
            self._read_line(line)
        self._accounts.ours += self._is_ours
        if not self._is_ours and b"async_guard." in line and self._told() == told:
            self._leave_unread(line.decode("utf-8", "replace"))

    def _told(self) -> tuple[int, ...]:
        """Return what changes when a line is told, or kept for later."""
        accounts = self._accounts
        waiting = len(self._torn) + len(self._pieces)
        return accounts.events, accounts.lost, accounts.cut, accounts.unread, waiting

    def _leave_unread(self, text: str) -> bool:
        """Tell of a text that names an event, and holds none that can be read."""
        match = NAMED.search(text)
        if match:
            self._accounts.leave_unread(self._name, self._offset, match[0])
        return match is not None

    def finish(self, damage: list[str] = []) -> None:  # noqa: B006  never changed
        """Tell what is still waiting, and the *damage* of the source itself."""
        self._end_pretty()
        for pieces in [self._pieces.pop(stream) for stream in list(self._pieces)]:
            self._read_pieces(pieces)
        self._age(everything=True)
        for reason in damage:
            self._accounts.lose(self._name, self._offset, reason)

    # --- a line ---------------------------------------------------------------------------------

    def _is_pretty(self, line: bytes) -> bool:
        """Keep a line of an object that is printed over many."""
        if not line[:1].isspace():
            self._end_pretty()
            return False
        text = line.decode("utf-8", "replace")
        if self._pretty is not None:
            if self._pretty.takes(text):
                self._is_ours = True
                return True
            self._end_pretty()
        if not self._torn and OURS in text:
            before = self._before(self._offset).decode("utf-8", "replace")
            self._pretty = Pretty.begun(text, before)
            self._is_ours = self._pretty is not None
        return self._pretty is not None

    def _end_pretty(self) -> None:
        """Read the object that is at its end."""
        pretty, self._pretty = self._pretty, None
        if pretty is not None and not self._read_value(pretty.value()):
            self._read_broken("".join(pretty.lines), 0)

    def _read_line(self, line: bytes) -> None:
        if line.startswith(BOM):
            line = line[len(BOM) :]
        if line.startswith(b"\0"):  # a hole that truncating left, perhaps of many megabytes
            line, self._is_damaged = line.lstrip(b"\0"), True
        if not line.startswith(b"{") and (match := CRI.match(line)):
            self._read_cri(
                match[1].decode("ascii", "replace"), match[2], match[3], line[match.end() :]
            )
            return
        try:
            value = decoded(line)
        except ValueError:
            self._read_damaged(line)
        else:
            if not self._is_docker_piece(value):
                before = self._accounts.events
                self._read_value(value)
                if self._torn:
                    self._check(line, self._accounts.events - before)

    def _check(self, line: bytes, events: int) -> None:
        """Beside torn lines, one that is JSON may still be put together from two."""
        fragment = Fragment(self._offset, line.decode("utf-8", "replace"))
        more = events_in((fragment,)) - events
        if more > 0 and events:
            self._lose(fragment, MIXED_UP, more)

    def _read_value(self, value: Any, times: tuple[Any, ...] = (), depth: int = 0) -> bool:
        """Read what is in *value*, inside of envelopes with *times*; False: nothing of ours."""
        if plain := unwrapped(value, times):
            self._read_found(plain)
            return True
        is_ours = False
        for found in unwrap(value):
            if times:
                found = found._replace(times=(*found.times, *times))
            if isinstance(found, Text):
                is_ours = self._read_text(found.text, found.times, depth + 1) or is_ours
            else:
                self._read_found(found)
                is_ours = True
        return is_ours

    def _read_text(self, text: str, times: tuple[Any, ...], depth: int) -> bool:
        """Read a text that an envelope held."""
        if depth > DEEPEST:
            if NAMED.search(text):
                self._accounts.lose(self._name, self._offset, "an event nested too deeply")
            return False
        begin = max(text.find("{"), 0)
        try:
            if OURS in text[:begin]:
                raise ValueError("the prefix is no prefix")
            value = decoded_text(text[begin:])
        except ValueError:
            return self._read_broken(text, depth)
        return self._read_value(value, times, depth)

    def _read_found(self, found: Found) -> None:
        if found.name not in READ:
            self._is_ours = True
            return
        self._is_ours = True
        event = read_event(found, is_damaged=self._is_damaged)
        if isinstance(event, str):
            self._accounts.lose(self._name, self._offset, event)
            return
        self._count(event)

    def _count(self, event: Event) -> None:
        self._accounts.events += 1
        self._accounts.recovered += self._is_damaged or event.is_odd
        self._accounts.newer += event.traits.is_newer
        self._tell(event)

    # --- pieces ---------------------------------------------------------------------------------

    def _read_cri(self, time: str, stream: bytes, tag: bytes, content: bytes) -> None:
        text = content.decode("utf-8", "replace").rstrip("\r\n")
        key = stream.decode()
        if tag == b"P":
            self._keep_piece(key, text)
            return
        pieces = self._pieces.pop(key, [])
        if pieces:
            self._is_ours = any(OURS in piece for _, piece in pieces)
            self._read_pieces([*pieces, (self._offset, text)], (time,))
        elif OURS in text or self._torn:
            self._is_damaged = "\ufffd" in text and b"\xef\xbf\xbd" not in content
            self._read_text(text, (time,), 0)

    def _is_docker_piece(self, value: Any) -> bool:
        """Keep what docker's json-file cut: a text without an end of line."""
        text = value.get("log") if isinstance(value, dict) else None
        if not isinstance(text, str) or "stream" not in value:
            return False
        key = str(value["stream"])
        pieces = self._pieces.pop(key, [])
        if pieces and _is_json(text):  # the rest of those never came
            self._read_pieces(pieces)
            return False
        if text.endswith("\n") or (pieces and _is_json("".join(t for _, t in pieces) + text)):
            if pieces:
                self._is_ours = True
                self._read_pieces([*pieces, (self._offset, text)], (value.get("time"),))
            return bool(pieces)
        if not pieces and (OURS not in text or not is_cut(text[max(text.find("{"), 0) :])):
            return False
        self._pieces[key] = pieces
        self._keep_piece(key, text)
        return True

    def _keep_piece(self, key: str, text: str) -> None:
        pieces = self._pieces.setdefault(key, [])
        pieces.append((self._offset, text))
        self._is_ours = self._is_ours or OURS in text
        if sum(len(piece) for _, piece in pieces) > LONGEST_PIECES:
            self._read_pieces(self._pieces.pop(key))

    def _read_pieces(self, pieces: list[tuple[int, str]], times: tuple[Any, ...] = ()) -> None:
        text = "".join(piece for _, piece in pieces)
        if OURS in text:
            here, self._offset = self._offset, pieces[0][0]
            told = self._told()
            if not self._read_text(text, times, 0) and self._told() == told:
                self._leave_unread(text)
            self._offset = here

    # --- damage ---------------------------------------------------------------------------------

    def _read_damaged(self, line: bytes) -> None:
        """Read a line that is no JSON: a prefix before it, or real damage."""
        text = line.decode("utf-8", "replace").replace("\0", "").strip("\r\n")
        if OURS not in text and not self._torn:
            fragment = Fragment(self._offset, text)
            if not line.endswith(b"\n") and fragment.is_cut:  # the end of the file
                self._torn.append(fragment)
            return
        match = BEGINNING.search(text)
        begin = match.start() if match else 0
        try:
            if " [outcome=" in text[:begin] or (
                '"' in text[:begin] and (self._torn or OURS in text[:begin])
            ):
                raise ValueError("the prefix is no prefix")
            value = decoded_text(text[begin:])
        except ValueError:
            self._read_broken(text, 0)
            return
        self._is_damaged = self._is_damaged or b"\0" in line or not _is_utf8(line)
        if not self._is_docker_piece(value):
            self._read_value(value)

    def _read_broken(self, text: str, depth: int) -> bool:
        """Read what is whole in *text*, and keep what is not."""
        if '"async_guard.' not in text:
            if self._read_sentences(text):
                return True
            if not self._torn and self._leave_unread(text):
                return False
        self._is_damaged, found = True, False
        for part in split(text):
            if isinstance(part, str):
                found = self._read_rest(part, depth) or found
            else:
                found = self._read_all(part.found, depth) or found
                if part.lost:
                    self._accounts.lose(self._name, self._offset, MIXED_UP, part.lost)
        return found

    def _read_rest(self, text: str, depth: int) -> bool:
        """Read what stands before, between and behind whole objects."""
        fragment = Fragment(self._offset, text)
        is_for_people = " [outcome=" in text and '\\"' not in text
        if is_for_people and not (fragment.is_ours or fragment.begins):
            return self._read_sentences(text) or self._read_fragment(fragment, depth)
        return self._read_fragment(fragment, depth)

    def _read_all(self, parts: list[Found | Text], depth: int) -> bool:
        found = False
        for part in parts:
            if isinstance(part, Text):
                found = self._read_text(part.text, part.times, depth + 1) or found
            else:
                self._read_found(part)
                found = True
        return found

    def _read_sentences(self, text: str) -> bool:
        """Read the lines for people that plain ``logging`` writes, which may be several."""
        begun: list[re.Match[str]] = []
        found = 0
        for match in _SENTENCE.finditer(text):
            if match["name"]:
                begun.append(match)
            elif begun:
                found += 1
                name = begun.pop()
                self._read_sentence(name["name"], text[name.end() : match.start()], match)
                self._lose_sentences(begun)
                begun = []
        if found:
            self._lose_sentences(begun)
        return found > 0

    def _lose_sentences(self, begun: list[re.Match[str]]) -> None:
        """Tell of those that another one came into the middle of."""
        if begun:
            self._accounts.lose(self._name, self._offset, MIXED_UP, len(begun))

    def _read_sentence(self, name: str, message: str, figures: re.Match[str]) -> None:
        place = _PLACE.search(message)
        keys = {
            "message": message,
            "code.file.path": place["path"] if place else None,
            "code.line.number": place["line"] if place else None,
            "code.function.name": message.split(" ", 1)[0],
            "async_guard.advice": place["advice"] if place else None,
            **{
                f"async_guard.{key}": figures[key]
                for key in ("outcome", "rule", "fingerprint", "count")
            },
        }
        self._read_found(Found(name, keys, ()))

    def _read_fragment(self, fragment: Fragment, depth: int) -> bool:
        """Put *fragment* together with what waits, or let it wait itself."""
        text = fragment.text
        if not text.strip(" \t,]}"):
            return False
        if '\\"' in text and self._read_escaped(text, depth):
            return True
        if found := self._joined(text):
            self._is_ours = True
            return self._read_all(found, depth)
        if not fragment.begins and (enough := _enough(ending(text))):
            self._read_found(enough)
            self._lose_others(fragment, ())
            return True
        if fragment.begins:
            self._is_ours = self._is_ours or fragment.is_ours
            self._torn.append(fragment)
        elif self._torn and fragment.is_part:
            self._is_ours = self._is_ours or fragment.is_ours
            self._go_on(fragment)
        elif fragment.is_ours:
            self._is_ours = True
            self._lose(fragment, "a part of an event", max(1, events_in((fragment,))))
        return False

    def _joined(self, tail: str) -> list[Found | Text]:
        """Return the events that *tail* ends, with what waits for it."""
        for head in reversed(self._torn):
            for text, parts in head.variants if not head.is_middle else ():
                if found := joined(text, tail):
                    self._torn = [each for each in self._torn if each not in (head, *parts)]
                    rest = Fragment(self._offset, tail)
                    self._lose_others(head, (*parts, rest), len(found))
                    return found
        return []

    def _go_on(self, piece: Fragment) -> None:
        """Keep a piece that neither begins nor ends an event."""
        for head in self._torn:
            if not head.is_middle:
                head.go_on(piece)
        piece.is_middle = True
        self._torn.append(piece)

    def _read_escaped(self, text: str, depth: int) -> bool:
        """Read the events that stand as text in *text*, which is no JSON itself."""
        found = False
        if depth < DEEPEST:
            for inner, is_whole in escaped_texts(text):
                self._is_damaged = not is_whole
                found = self._read_text(inner, (), depth + 1) or found
        return found

    def _lose_others(self, fragment: Fragment, parts: tuple[Fragment, ...], found: int = 1) -> None:
        """Some events were read: those that were mixed up with them are lost."""
        more = events_in((fragment, *parts)) - found
        if more > 0:
            self._lose(fragment, MIXED_UP, more)

    def _lose_all(self, fragment: Fragment) -> None:
        """Tell that *fragment* is lost, with the pieces that nothing else begins."""
        pieces = [each for each in self._torn if each.is_middle]
        group = (fragment, *pieces)
        if any(each.is_ours for each in group):
            self._torn = [each for each in self._torn if each not in pieces]
            self._lose(fragment, "an event that was cut", max(1, events_in(group)))
        elif fragment.is_cut:
            self._accounts.cut_off(self._name, fragment.offset)
        else:
            self._leave_unread(fragment.text)

    def _lose(self, fragment: Fragment, reason: str, count: int) -> None:
        self._accounts.lose(self._name, fragment.offset, reason, count)

    def _age(self, everything: bool = False) -> None:
        """Give up what waited long enough."""
        for fragment in self._torn:
            fragment.age += 1
        while self._torn and (everything or self._torn[0].age > PATIENCE):
            self._give_up(self._torn.pop(0))

    def _give_up(self, fragment: Fragment) -> None:
        """Read what a line that was cut still says, or tell that it is lost."""
        here = self._offset, self._is_damaged
        self._offset, self._is_damaged = fragment.offset, True
        enough, parts = _best(fragment)
        if enough:
            self._torn = [each for each in self._torn if each not in parts]
            self._read_found(enough)
            self._lose_others(fragment, parts)
        else:
            self._lose_all(fragment)
        self._offset, self._is_damaged = here


def _best(fragment: Fragment) -> tuple[Found | None, tuple[Fragment, ...]]:
    """Return the event that *fragment* begins, and the pieces that were needed for it."""
    if not fragment.is_middle:
        for text, parts in reversed(fragment.variants):
            if enough := _enough(beginning(text)):
                return enough, parts
    return None, ()


def _enough(parts: list[Found | Text]) -> Found | None:
    """Return the part of an event that still says how often which problem was met."""
    for part in parts:
        if not isinstance(part, Found) or part.name not in READ:
            continue
        if part.keys.keys() >= _ESSENTIAL and is_fingerprint(part.keys["async_guard.fingerprint"]):
            return part
    return None


def _is_json(text: str) -> bool:
    try:
        decoded_text(text[max(text.find("{"), 0) :])
    except ValueError:
        return False
    return True


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except ValueError:
        return False
    return True
