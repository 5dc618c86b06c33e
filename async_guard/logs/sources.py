"""Which files are meant: paths, globs, directories with rotated files, standard input."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from async_guard.logs.compression import LONGEST_MAGIC, is_plain
from async_guard.logs.failures import CommandFailed

STDIN = "-"
_PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read."""

    path: str
    size: int
    is_seekable: bool
    """It is plain text in a regular file, so several processes may share it."""

    @property
    def name(self) -> str:
        return "standard input" if self.path == STDIN else self.path


def find_sources(paths: Sequence[str]) -> list[Source]:
    """
    Return the files that *paths* stand for, each once.

    Raises:
        CommandFailed: a path is not there, or cannot be read.
    """
    found: dict[object, Source] = {}
    for path in paths:
        if not path or "\0" in path:
            raise CommandFailed(f"{path!r} is no PATH: name a log file, a directory or a glob.")
        files = list(_files(path))
        if not files:
            raise CommandFailed(f"There is no log at {path}.")
        for file in files:
            found.setdefault(_identity(file), _source(file))
    return list(found.values())


def _files(path: str) -> Iterator[str]:
    if path == STDIN or (os.path.exists(path) and not os.path.isdir(path)):
        yield path
    elif os.path.isdir(path):
        yield from _files_below(path)
    else:
        for match in sorted(glob.glob(path, recursive=True)):
            if os.path.isdir(match):
                yield from _files_below(match)
            else:
                yield match


def _files_below(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders.sort()
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if os.path.isfile(path) and not _is_parquet(path))


def _is_parquet(path: str) -> bool:
    """An export among the logs is no log."""
    return path.lower().endswith(".parquet")


def _unreadable(error: OSError, path: str | None = None) -> NoReturn:
    """Say what could not be read; an error while reading does not know its file."""
    raise CommandFailed(f"{path or error.filename} cannot be read: {error.strerror}.") from error


def _identity(path: str) -> object:
    if path == STDIN:
        return STDIN
    try:
        found = os.stat(path)
    except OSError as error:
        _unreadable(error, path)
    return found.st_dev, found.st_ino


def _source(path: str) -> Source:
    if path == STDIN:
        if sys.stdin is None:
            raise CommandFailed("Standard input is closed: name a log file.")
        return Source(STDIN, 0, is_seekable=False)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return Source(path, 0, is_seekable=False)  # a pipe may be opened only once
        with open(path, "rb") as file:
            beginning = file.read(LONGEST_MAGIC)
    except OSError as error:
        _unreadable(error, path)
    if beginning.startswith(_PARQUET):
        raise CommandFailed(f"{path} is Parquet and no log: leave it out, or ask DuckDB about it.")
    return Source(path, found.st_size, is_plain(beginning))


@contextmanager
def raw(source: Source) -> Iterator[BinaryIO]:
    """Open *source* as it is stored."""
    if source.path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = open(source.path, "rb", buffering=0)  # noqa: SIM115  closed below
    except OSError as error:
        _unreadable(error, source.path)
    with file:
        yield file


def total_size(sources: Iterable[Source]) -> int:
    return sum(source.size for source in sources)
