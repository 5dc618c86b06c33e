"""
Bytes to lines that may be of interest.

Blocks are searched for a marker, and only lines that have one are cut out; the others are counted.
Where somebody waits for the rest of a torn line, the next lines are cut out whatever is in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator

from async_guard.logs.compression import Stream

BLOCK = 1 << 17  # fits the cache, so that searching it again costs little
MARKER = b"async_guard"
LONGEST = 24 << 20
"""A line of more bytes is cut; one without a marker is not even held."""
KEPT = 1 << 16
"""So much of the end of an over-long line without a marker is looked at again."""
FIRST = 1 << 12
"""So much of a block tells what kind of log it is."""
_IS_CRI = (b" stdout F", b" stderr F", b" stdout P", b" stderr P")
_PARTIAL_CRI = (b"stdout P", b"stderr P")
_IS_JOURNAL = (b'"__REALTIME_TIMESTAMP"', b'"MESSAGE"')
_AS_NUMBERS = (b"97,115,121,110,99,95,103", b"97, 115, 121, 110, 99, 95, 103")
"""How journald writes ``async_g`` in a message that is not printable."""


class Scanner:
    """The lines of a stream, from an offset on."""

    def __init__(self, stream: Stream, offset: int = 0, end: int | None = None) -> None:
        """
        Args:
            offset: where in the file *stream* stands, at the beginning of a line.
            end: lines that begin there or later are somebody else's.
        """
        self._stream = stream
        self._offset = offset
        self._end = end
        self._data, self._here, self._region = b"", 0, offset
        """What is searched, from which index on, and the offset of that."""
        self._tail = b""
        """The end of what was searched before."""
        self.lines = 0
        self.position = offset
        """How far it is read; lines up to here are counted."""

    def interesting(self, wants_next: Callable[[], bool]) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of each line with a marker, and of those that are wanted."""
        held: list[bytes] = []
        size = 0
        while block := self._read():
            begin = block.find(b"\n") + 1
            if not begin:
                held.append(block)
                size += len(block)
                if size > LONGEST:
                    held = yield from self._over_long(held)
                    size = sum(map(len, held))
                continue
            if held:  # a line of its own: a long one is not copied again
                line = b"".join((*held, block[:begin]))
                held = []
                yield from self._search(line, 0, len(line), wants_next)
                del line
            else:
                begin = 0
            end = block.rfind(b"\n") + 1
            yield from self._search(block, begin, end, wants_next)
            held = [block[end:]] if end < len(block) else []
            size = len(block) - end
        yield from self._last(b"".join(held))

    def before(self, offset: int) -> bytes:
        """Return some of what stands before the line that was given last, at *offset*."""
        end = self._here + offset - self._region
        if end - self._here >= FIRST:
            return self._data[end - FIRST : end]
        return (self._tail + self._data[self._here : end])[-FIRST:]

    def _remember(self, data: bytes, here: int) -> None:
        self._tail = self.before(self._offset)
        is_short = len(data) <= 2 * BLOCK  # a long line is held no longer than necessary
        self._data, self._here, self._region = data if is_short else b"", here, self._offset

    def _read(self) -> bytes:
        size = BLOCK
        if self._end is not None:
            size = min(size, self._end - self.position)
        block = self._stream.read(size) if size > 0 else b""
        self.position += len(block)
        return block

    def _search(
        self, data: bytes, here: int, end: int, wants_next: Callable[[], bool]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield from the whole lines between *here* and *end*."""
        self._remember(data, here)
        offset = self._offset - here
        self._offset += end - here
        self.lines += _ends(data[here:end])
        places = dict.fromkeys(markers(data[here : here + FIRST]), -1)
        while here < end:
            found = here
            if not wants_next():
                found = _next(data, here, end, places)
                if found == end:
                    return
            begin = max(here, data.rfind(b"\n", here, found) + 1)
            here = data.find(b"\n", found) + 1
            yield offset + begin, data[begin:here]

    def _over_long(self, held: list[bytes]) -> Generator[tuple[int, bytes], None, list[bytes]]:
        """Give what there is of a line that has no end; return what to go on with."""
        size = sum(map(len, held))
        kept = held[-1][-KEPT:]
        if _has_marker(held):
            self.lines += 1  # what is left of it is one more
            yield self._offset, b"".join(held)
            kept = b""
        self._offset += size - len(kept)
        return [kept]

    def _last(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        if not data:
            return
        self.lines += 1
        yield self._offset, data  # it may be cut off before the marker
        self._offset += len(data)


def _ends(data: bytes) -> int:
    """Return how many lines end in *data*; ``count`` takes four times as long."""
    return len(data) - len(data.replace(b"\n", b""))


def _has_marker(blocks: list[bytes]) -> bool:
    wanted = markers(blocks[0][:FIRST])
    seams = [before[-64:] + after[:64] for before, after in itertools.pairwise(blocks)]
    return any(marker in block for block in (*blocks, *seams) for marker in wanted)


def markers(first: bytes) -> list[bytes]:
    """Return what to look for in a block, by what its first lines are."""
    found = [MARKER]
    if any(tag in first for tag in _IS_CRI):
        found += _PARTIAL_CRI
    if any(key in first for key in _IS_JOURNAL):
        found += _AS_NUMBERS
    return found


def _next(data: bytes, here: int, end: int, places: dict[bytes, int]) -> int:
    """Return where the next marker is, or *end*; *places* remembers what was found further on."""
    nearest = end
    for marker, place in places.items():
        if place < here:
            place = data.find(marker, here, end)
            places[marker] = place = end if place < 0 else place
        nearest = min(nearest, place)
    return nearest
