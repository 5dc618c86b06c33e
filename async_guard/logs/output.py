"""Where a command's result goes: a file as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from async_guard.logs.failures import CommandFailed


def write_file(path: str, text: str) -> None:
    """
    Put *text* in place of what is at *path*.

    Raises:
        CommandFailed: it cannot be written.
    """
    data = text.encode("utf-8", "replace")
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, or a pipe
        _write_in_place(path, data)
        return
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o666 & ~_umask())
        os.replace(file.name, path)
    except OSError as error:
        with suppress(OSError, UnboundLocalError):
            os.unlink(file.name)
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.") from error


def _write_in_place(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
