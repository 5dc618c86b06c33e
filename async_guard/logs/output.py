"""Where a command's result goes: a file as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from async_guard.logs.failures import CommandFailed


def write_file(path: str, text: str) -> None:
    """
    Put *text* in place of what is at *path*.

    Raises:
        CommandFailed: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text)


@contextmanager
def replacing(path: str) -> Iterator[IO[str]]:
    """
    Open what takes the place of the file at *path* when the block ends well.

    Raises:
        CommandFailed: it cannot be written.
    """
    is_special = os.path.exists(path) and not os.path.isfile(path)  # /dev/stdout, or a pipe
    try:
        with _opened(path) if is_special else _beside(os.path.realpath(path)) as file:
            yield file
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.") from error


def _opened(path: str) -> IO[str]:
    return open(path, "w", encoding="utf-8", errors="replace", newline="\n")


@contextmanager
def _beside(path: str) -> Iterator[IO[str]]:
    """Open a new file, and move it to *path* at the end."""
    handle, name = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
    os.close(handle)
    try:
        with _opened(name) as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
