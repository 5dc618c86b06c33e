"""``follow``: one line per new problem as it comes, counts for the rest."""

from __future__ import annotations

import argparse
import glob
import os
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from types import FrameType
from typing import TextIO

from async_guard.commands.inputs import add_filters, filters_of, is_natural
from async_guard.logs.accounts import Accounts
from async_guard.logs.baseline import load_baseline
from async_guard.logs.events import Event
from async_guard.logs.failures import CommandFailed
from async_guard.logs.filters import Filters
from async_guard.logs.reader import Reader
from async_guard.logs.report import Problem, summed_up
from async_guard.logs.tail import Tail
from async_guard.logs.tally import Tally

HELP = "Show problems as they come, over rotation and truncation."
EVERY_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="log file, there already or not")
    parser.add_argument(
        "-n",
        "--lines",
        default="10",
        metavar="N",
        help="begin with the last N lines of what is there (default 10); all: with the first",
    )
    parser.add_argument("--baseline", metavar="FILE", help="problems that are not new")
    parser.add_argument(
        "--interval", type=_seconds, default=5.0, metavar="S", help="seconds between counts"
    )
    add_filters(parser)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def run(options: argparse.Namespace, out: TextIO) -> int:
    lines = _lines(options.lines)
    baseline = load_baseline(options.baseline).known if options.baseline is not None else ()
    follower = Follower(filters_of(options), set(baseline), out)
    tails = [Tail(path, lines) for path in _paths(options.paths)]
    for path in (tail.path for tail in tails if not os.path.exists(tail.path)):
        print(f"{path} is not there yet: waiting for it.", file=sys.stderr)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        _follow(tails, follower, options.interval)
    except KeyboardInterrupt:
        follower.end(tails)
    finally:
        signal.signal(signal.SIGTERM, before)
        for tail in tails:
            tail.close()
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _lines(text: str) -> int:
    if text == "all":
        return -1
    if not is_natural(text):
        raise CommandFailed(f"--lines takes a number or all, not {text!r}.")
    return int(text)


def _paths(patterns: list[str]) -> list[str]:
    paths = [found for each in patterns for found in sorted(glob.glob(each)) or [each]]
    for path in paths:
        if path == "-":
            raise CommandFailed("follow takes files: async-guard report - reads standard input.")
        if not path or "\0" in path:
            raise CommandFailed(f"{path!r} is no PATH: name a log file.")
        if os.path.isdir(path):
            raise CommandFailed(f"{path} is a directory: follow takes files.")
        if os.path.exists(path) and not os.path.isfile(path):
            raise CommandFailed(f"{path} is a pipe or a device: follow takes files.")
        if os.path.exists(path) and not os.access(path, os.R_OK):
            raise CommandFailed(f"{path} cannot be read.")
    return list(dict.fromkeys(paths))


def _follow(tails: list[Tail], follower: Follower, interval: float) -> None:
    due = time.monotonic() + interval
    while True:
        for tail in tails:
            follower.read(tail)
        if time.monotonic() >= due:
            follower.tell_counts()
            due = time.monotonic() + interval
        time.sleep(EVERY_S)


class Follower:
    """Tells what is new, and counts what is not."""

    def __init__(self, filters: Filters, known: set[str], out: TextIO) -> None:
        self._filters = filters
        self._known = known
        self._told: set[str] = set()
        self._waiting: dict[str, Tally] = {}
        self._out = out
        self._accounts = Accounts()
        self._more: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._readers: dict[str, Reader] = {}

    def read(self, tail: Tail) -> None:
        """Read the lines that *tail* has by now."""
        reader = self._readers.get(tail.path)
        if reader is None:
            reader = self._readers[tail.path] = Reader(tail.path, self._accounts, self._tell)
        for offset, line in tail.lines():
            self._feed(reader, offset, line)
        self._out.flush()

    def _feed(self, reader: Reader, offset: int, line: bytes) -> None:
        self._accounts.lines += 1
        reader.feed(offset, line)

    def end(self, tails: list[Tail]) -> None:
        """Tell what is left."""
        for tail in tails:
            if reader := self._readers.get(tail.path):
                for offset, line in tail.rest():
                    self._feed(reader, offset, line)
                reader.finish()
        self.tell_counts()
        self._accounts.files = len(tails)
        for sentence in summed_up(self._accounts):
            self._write(sentence)

    def _tell(self, event: Event) -> None:
        fingerprint = event.traits.fingerprint
        if fingerprint is None or not self._filters.admit(event):
            return
        self._totals[fingerprint] += event.count
        if fingerprint in self._told:
            self._more[fingerprint] += event.count
            return
        tally = self._waiting.setdefault(fingerprint, Tally(fingerprint, event))
        tally.count_event(event)
        if self._filters.admit_problem(tally):
            self._tell_problem(self._waiting.pop(fingerprint), event.when)

    def _tell_problem(self, tally: Tally, when: float | None) -> None:
        self._told.add(tally.fingerprint)
        if tally.fingerprint in self._known:
            self._more[tally.fingerprint] += tally.count
        else:
            self._write(_line(Problem(tally), when))

    def tell_counts(self) -> None:
        """Write how many more hits the known problems had."""
        for fingerprint, count in self._more.most_common():
            self._write(
                f"{_clock()}  +{count:<6,} {fingerprint}  {self._totals[fingerprint]:,} in all"
            )
        self._more.clear()

    def _write(self, line: str) -> None:
        shown = line if line.isprintable() else "".join(map(_escaped, line))
        self._out.write(shown + "\n")
        self._out.flush()


def _escaped(character: str) -> str:
    """Have a line break in a name begin no line."""
    return character if character.isprintable() else repr(character)[1:-1]


def _line(problem: Problem, when: float | None) -> str:
    """Say what the log says: a hit in a line that was cut has no place."""
    parts = (
        problem.outcomes,
        problem.subject,
        problem.hit.path and f"at {problem.place}",
        problem.function and f"in {problem.function}",
    )
    what = " ".join(part for part in parts if part)
    return f"{_clock(when)}  new     {problem.fingerprint}  {what}. {problem.advice}"


def _clock(when: float | None = None) -> str:
    return f"{datetime.fromtimestamp(time.time() if when is None else when, UTC):%H:%M:%S}"
