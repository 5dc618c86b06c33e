"""
Follows files as ``tail -F`` does: over rotation, truncation and torn writes.

A line that has no end yet waits for it. A file that is renamed or removed is read to its end
before the new one is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

BLOCK = 1 << 20
LONGEST = 24 << 20


class Tail:
    """One path, whatever file is there now."""

    def __init__(self, path: str, last_lines: int) -> None:
        """
        Args:
            last_lines: so many lines of what is there already are read; -1: all.
        """
        self.path = path
        self.offset = 0
        """Of the first byte that was not given out."""
        self._torn = b""
        self._file: BinaryIO | None = None
        if self._open() and last_lines >= 0:
            self._skip_to(last_lines)

    def _open(self) -> bool:
        with suppress(OSError):
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  closed when replaced
            self.offset, self._torn = 0, b""
        return self._file is not None

    def _skip_to(self, lines: int) -> None:
        """Go to where the last *lines* lines begin."""
        assert self._file is not None
        end = position = self._file.seek(0, os.SEEK_END)
        found = 0
        while position > 0:
            size = min(BLOCK, position)
            position -= size
            self._file.seek(position)
            data = self._file.read(size)
            at = len(data) - (1 if position + size == end and data.endswith(b"\n") else 0)
            while (at := data.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found >= max(lines, 1):
                    self._go_to(position + at + 1 if lines else end)
                    return
        self._go_to(0 if lines else end)

    def _go_to(self, offset: int) -> None:
        assert self._file is not None
        self._file.seek(offset)
        self.offset = offset

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of every line that was finished since the last time."""
        if self._file is None and not self._open():
            return
        yield from self._read()
        if self._is_replaced():
            yield from self._read()  # what was written between the look and the rename
            yield from self.rest()
            assert self._file is not None
            self._file.close()
            self._file = None
            if self._open():
                yield from self._read()

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """Yield the line that has no end, because none will come."""
        if self._torn:
            yield self.offset, self._torn
            self.offset += len(self._torn)
            self._torn = b""

    def _is_replaced(self) -> bool:
        assert self._file is not None
        ours = os.fstat(self._file.fileno())
        try:
            there = os.stat(self.path)
        except OSError:  # renamed, and the new one is not there yet
            return ours.st_nlink == 0
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self.offset + len(self._torn):
            self._torn = b""  # truncated: it begins anew
            self._go_to(0)
        while block := self._file.read(BLOCK):
            data = self._torn + block
            begin = 0
            while (end := data.find(b"\n", begin) + 1) > 0:
                yield self.offset, data[begin:end]
                self.offset += end - begin
                begin = end
            self._torn = data[begin:]
            if len(self._torn) > LONGEST:
                yield from self.rest()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
