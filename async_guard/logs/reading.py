"""
All sources to one result, by several processes where it is worth it.

A large file is read in ranges. They meet where a line ends and nothing waits for a next one, so
the result is the same whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from async_guard.logs.accounts import Accounts
from async_guard.logs.compression import Readable, opened
from async_guard.logs.events import Event
from async_guard.logs.failures import CommandFailed
from async_guard.logs.filters import Filters
from async_guard.logs.reader import Reader
from async_guard.logs.scanner import FIRST, Scanner, markers
from async_guard.logs.sources import Source, raw
from async_guard.logs.tally import Tallies

RANGE = 32 << 20
MOST_PROCESSES = 8
BEFORE = 1 << 18
"""So much before a border is read, to see whether something waits there."""
TRIES = 64
REMEMBERED_IDS = 200_000
Progress = Callable[[int], None]


class Part(NamedTuple):
    """A range of a source; the whole, where ``end`` is None."""

    source: Source
    begin: int = 0
    end: int | None = None

    @property
    def size(self) -> int:
        """Bytes as they are stored."""
        return (self.end or self.source.size) - self.begin


@dataclass(slots=True)
class Result:
    """What was read."""

    accounts: Accounts = field(default_factory=Accounts)
    tallies: Tallies = field(default_factory=Tallies)

    def add(self, later: Result) -> None:
        """Add what was read behind this."""
        self.accounts.add(later.accounts)
        self.tallies.add(later.tallies)


def read(
    sources: Sequence[Source],
    filters: Filters = Filters(),  # noqa: B008  frozen
    *,
    processes: int = 1,
    unique: bool = False,
    progress: Progress | None = None,
) -> Result:
    """
    Read *sources*.

    Args:
        processes: 0: as many as there are processors and work.
        unique: count a hit that was shipped more than once only once.
        progress: is told how many more bytes were read.
    """
    tally_up = _TallyUp(filters, RecentIds() if unique else None)
    parts = list(split(sources)) if processes != 1 and not unique else [Part(s) for s in sources]
    wanted = min(processes or _processors(), len(parts), MOST_PROCESSES)
    if wanted > 1:
        return _read_together(parts, filters, wanted, progress)
    for part in parts:
        read_part(part, tally_up.result.accounts, tally_up, progress)
    return tally_up.finished(len(sources))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RecentIds:
    """The ids of the hits that were read last: at-least-once shipping repeats soon."""

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def is_repeated(self, hit_id: object) -> bool:
        if not isinstance(hit_id, str):
            return False
        short = hash(hit_id)
        if short in self._ids:
            return True
        self._ids[short] = None
        if len(self._ids) > REMEMBERED_IDS:
            del self._ids[next(iter(self._ids))]
        return False


class _TallyUp:
    """Counts what the filters admit."""

    def __init__(self, filters: Filters, ids: RecentIds | None = None) -> None:
        self.result = Result()
        self._filters = filters
        self._admits_all = filters.admit_every_event
        self._ids = ids

    def __call__(self, event: Event) -> None:
        accounts = self.result.accounts
        if self._ids and event.traits.is_hit and self._ids.is_repeated(event.hit_id):
            accounts.repeated += 1
            return
        if not (self._admits_all or self._filters.admit(event)):
            accounts.undated += event.when is None and self._filters.are_about_time
            return
        if event.traits.fingerprint is None:
            accounts.unnamed += event.count
            accounts.dropped += _dropped(event)
        self.result.tallies.count(event)

    def finished(self, files: int) -> Result:
        self.result.accounts.files = files
        return self.result


def _dropped(event: Event) -> int:
    dropped = event.keys.get("async_guard.dropped")
    return dropped if type(dropped) is int and dropped > 0 else 0


def read_part(
    part: Part,
    accounts: Accounts,
    tell: Callable[[Event], None],
    progress: Progress | None = None,
) -> None:
    """Read one part of a source, and tell each event."""
    source, begin, end = part
    with raw(source) as file:
        if begin:
            file.seek(begin)
        watched = _Watched(file, progress)
        stream = opened(watched) if end is None else _Range(watched)
        scanner = Scanner(stream, begin, end)
        reader = Reader(source.name, accounts, tell, scanner.before)
        for offset, line in scanner.interesting(reader.wants_next):
            reader.feed(offset, line)
        reader.finish([*stream.damage, *watched.failures])
    accounts.lines += scanner.lines
    accounts.size += scanner.position - begin


class _Watched:
    """A file that tells how far it was read, and ends where it cannot be read."""

    def __init__(self, file: BinaryIO, progress: Progress | None) -> None:
        self.failures: list[str] = []
        self._file = file
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            self.failures.append(f"reading failed: {error.strerror}")
            return b""
        if self._progress is not None:
            self._progress(len(data))
        return data


class _Range:
    """A plain file, as a stream."""

    def __init__(self, file: Readable) -> None:
        self.damage: list[str] = []
        self.read = file.read


# --- ranges --------------------------------------------------------------------------------------


def split(sources: Iterable[Source], size: int = 0) -> Iterator[Part]:
    """Yield *sources* in parts of about *size* bytes."""
    size = size or RANGE
    for source in sources:
        if not source.is_seekable or source.size < 2 * size:
            yield Part(source)
            continue
        with raw(source) as file:
            begin = 0
            for wanted in range(size, source.size - size // 2, size):
                border = _border(file, wanted)
                if border is not None and begin < border < source.size:
                    yield Part(source, begin, border)
                    begin = border
            yield Part(source, begin, None) if not begin else Part(source, begin, _end(file))


def _end(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _border(file: BinaryIO, wanted: int) -> int | None:
    """Return the first line's end from *wanted* on where nothing waits for a next line."""
    begin = max(0, wanted - BEFORE)
    file.seek(begin)
    data = file.read(2 * BEFORE + wanted - begin)
    if begin:
        cut = data.find(b"\n") + 1
        data, begin = data[cut:], begin + cut
    reader = Reader("", Accounts(), lambda event: None)
    telling = markers(data[:FIRST])
    here = 0
    while (stop := data.find(b"\n", here)) >= 0:
        line = data[here : stop + 1]
        if reader.wants_next() or any(each in line for each in telling):
            reader.feed(begin + here, line)
        here = stop + 1
        if begin + here >= wanted and not reader.wants_next() and _is_beginning(data, here):
            return begin + here
    return None


def _is_beginning(data: bytes, here: int) -> bool:
    """Tell whether the line there is none within an object that is printed over many."""
    line = data[here : data.find(b"\n", here) + 1]
    return not line[:1].isspace() or line.lstrip().startswith((b"{", b"["))


# --- processes -----------------------------------------------------------------------------------


class InOrder:
    """
    Adds results up in the order of their parts, in whatever order they come.

    Neighbours are added to each other at once, so no more results are held than there are gaps
    between them.
    """

    def __init__(self) -> None:
        self._runs: dict[int, tuple[int, Result]] = {}
        """Begin to end, and what was read between them."""
        self._begins: dict[int, int] = {}
        """End to begin."""

    def add(self, number: int, result: Result) -> None:
        """Add the result of part *number*, counted from 0."""
        begin, end = number, number + 1
        if (before := self._begins.pop(begin, None)) is not None:
            _, earlier = self._runs.pop(before)
            earlier.add(result)
            begin, result = before, earlier
        if (after := self._runs.pop(end, None)) is not None:
            del self._begins[after[0]]
            end = after[0]
            result.add(after[1])
        self._runs[begin], self._begins[end] = (end, result), begin

    def total(self, files: int) -> Result:
        """Return all of it, once every part is there."""
        _, result = self._runs.get(0, (0, Result()))
        result.accounts.files = files
        return result


def _read_together(
    parts: Sequence[Part], filters: Filters, processes: int, progress: Progress | None
) -> Result:
    """Have worker processes read *parts*, and add up what they found."""
    results = InOrder()
    try:
        with ProcessPoolExecutor(processes, mp_context=_context()) as pool:
            waiting = {
                pool.submit(read_in_worker, part, filters): n for n, part in enumerate(parts)
            }
            for done in as_completed(waiting):
                number = waiting.pop(done)
                results.add(number, done.result())
                if progress is not None:
                    progress(parts[number].size)
    except BrokenProcessPool:
        raise CommandFailed(
            "A worker process died, for lack of memory perhaps: try --processes 1."
        ) from None
    return results.total(len({part.source for part in parts}))


def _context() -> multiprocessing.context.BaseContext:
    """Fork where that is safe: it is the fastest start."""
    is_safe = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context("fork" if is_safe else "spawn")


def read_in_worker(part: Part, filters: Filters) -> Result:
    """Read *part*; what comes back can be added up."""
    tally_up = _TallyUp(filters)
    read_part(part, tally_up.result.accounts, tally_up)
    return tally_up.result
