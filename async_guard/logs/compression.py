"""
Decompression by content, as far as the data goes.

A damaged archive gives what stands before the damage, and what stands in later members; what
was passed over is told in ``damage``. Data after the end of an archive, and of its padding, is
looked at anew, and so is what begins a line of text: archives and text may follow each other.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from async_guard.logs.failures import MissingExtra

CHUNK = 1 << 16
MOST = 1 << 20
"""So much comes out of one step at most, whatever the data claims to be."""
STEP = 1 << 13  # so much is lost at most where it is damaged
LONGEST_MAGIC = 10


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Stream(Readable, Protocol):
    """Bytes to be read once, from the beginning."""

    damage: list[str]


class Codec(NamedTuple):
    name: str
    magics: tuple[bytes, ...]
    decompressor: Callable[[], Any]


class _Gzip:
    """``zlib`` with the interface that the other decompressors have."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._is_broken = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return what comes out before the damage, too; the next call fails."""
        if self._is_broken:
            raise ValueError("damaged")
        before = self._inner.copy()
        data = self._inner.unconsumed_tail + data
        try:
            return self._inner.decompress(data, max_length)
        except zlib.error:
            self._is_broken = True
            return b"".join(_as_far_as_it_goes(before, data))

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not (self._inner.unconsumed_tail or self._is_broken)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _as_far_as_it_goes(inner: Any, data: bytes) -> Iterator[bytes]:
    with suppress(zlib.error):
        for at in range(len(data)):
            yield inner.decompress(data[at : at + 1])


class _InSteps:
    """Another decompressor, in small steps: the one that fails gives nothing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._is_broken = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return what comes out before the damage, too; the next call fails."""
        if self._is_broken:
            raise ValueError("damaged")
        return b"".join(self._steps(data, max_length))

    def _steps(self, data: bytes, max_length: int) -> Iterator[bytes]:
        while max_length > 0:
            try:
                found = self._inner.decompress(data, min(max_length, STEP))
            except Exception:  # each library has errors of its own
                self._is_broken = True
                return
            yield found
            data, max_length = b"", max_length - len(found)
            if self._inner.eof or self._inner.needs_input:
                return

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return self._inner.needs_input and not self._is_broken

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)


def _zstd() -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return _InSteps(importlib.import_module(module).ZstdDecompressor())
        except ImportError:
            continue
    raise MissingExtra("A log compressed with zstd", "backports.zstd", "zstd")


CODECS = (
    Codec("gzip", (b"\x1f\x8b\x08",), _Gzip),
    Codec("zstd", (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"), _zstd),
    Codec(
        "bzip2",
        tuple(
            b"BZh%d%b" % (level, block)
            for level in range(1, 10)
            for block in (b"1AY&SY", b"\x17rE8P\x90")  # the latter of a stream without data
        ),
        lambda: _InSteps(bz2.BZ2Decompressor()),
    ),
    Codec("xz", (b"\xfd7zXZ\x00",), lambda: _InSteps(lzma.LZMADecompressor())),
)
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def codec_of(beginning: bytes) -> Codec | None:
    """Return how something that begins so is compressed."""
    for codec in CODECS:
        if beginning.startswith(codec.magics):
            return codec
    return None


def is_plain(beginning: bytes) -> bool:
    """Tell whether a file that begins so can be read from anywhere."""
    return codec_of(beginning) is None and beginning[:2] not in _UTF16


def opened(raw: Readable) -> Stream:
    """Return what is in *raw*, decompressed and in UTF-8."""
    stream = Decompressed(raw, _full(raw, LONGEST_MAGIC))
    stream.found = _full(stream, max(map(len, _UTF16)))
    encoding = _UTF16.get(stream.found)
    return Transcoded(stream, encoding) if encoding else stream


def _full(raw: Readable, size: int) -> bytes:
    """Read *size* bytes, from a pipe too, which gives what it has."""
    data = b""
    while len(data) < size and (more := raw.read(size - len(data))):
        data += more
    return data


_ARCHIVE = re.compile(
    rb"\n(?:\x1f\x8b\x08|\x28\xb5\x2f\xfd|\xfd7zXZ\x00|BZh[1-9](?:1AY&SY|\x17rE8P\x90))"
)


def _archive_in(data: bytes) -> int:
    """Return where in text an archive begins; 0: nowhere, as text is no archive."""
    if 0x1F not in data and 0xFD not in data:  # text has none, an archive has some
        return 0
    match = _ARCHIVE.search(data)
    return match.start() + 1 if match else 0


class Decompressed:
    """Archives and plain text, one after the other."""

    def __init__(self, raw: Readable, beginning: bytes) -> None:
        self.damage: list[str] = []
        self.found = b""
        """What was read ahead."""
        self._raw = raw
        self._waiting = beginning
        self._fed = b""
        """What the decompressor was given last."""
        self._codec = codec_of(beginning)
        self._inner: Any = self._codec.decompressor() if self._codec else None

    def read(self, size: int, /) -> bytes:
        found, self.found = self.found[:size], self.found[size:]
        return found or self._read(size)

    def _read(self, size: int) -> bytes:
        while self._inner is not None:
            if data := self._step(size):
                return data
        waiting, self._waiting = self._waiting[:size], self._waiting[size:]
        data = waiting or self._raw.read(size)
        if (at := _archive_in(data)) > 0:
            self._next(data[at:] + self._waiting)
            return data[:at]
        return data

    def _step(self, size: int) -> bytes:
        """Return a piece; nothing, where this archive needs more or is at its end."""
        if self._inner.eof:
            self._next(self._inner.unused_data)
            return b""
        data = b""
        if self._inner.needs_input:
            data = self._fed = self._waiting or self._raw.read(CHUNK)
            self._waiting = b""
            if not data:
                return self._broken("ends early", b"")
        try:
            found: bytes = self._inner.decompress(data, max_length=min(size, MOST))
        except Exception:  # each library has errors of its own
            return self._broken("is damaged", self._fed[1:])
        return found

    def _next(self, beginning: bytes) -> None:
        """Go on after the end of an archive and its padding, with whatever it is."""
        beginning = beginning.lstrip(b"\0")
        while len(beginning) < LONGEST_MAGIC and (more := self._raw.read(CHUNK)):
            beginning = (beginning + more).lstrip(b"\0")
        self._waiting = beginning
        self._codec = codec_of(beginning)
        self._inner = self._codec.decompressor() if self._codec else None

    def _broken(self, how: str, rest: bytes) -> bytes:
        """Note the damage, and look for the next member."""
        assert self._codec is not None
        self.damage.append(f"the {self._codec.name} archive {how}; what follows there is unknown")
        magics = self._codec.magics
        while rest:
            at = min((found for magic in magics if (found := rest.find(magic)) >= 0), default=-1)
            if at >= 0:
                self._next(rest[at:])
                return b""
            more = self._raw.read(CHUNK)
            rest = rest[-LONGEST_MAGIC:] + more if more else b""
        self._codec, self._inner, self._waiting = None, None, b""
        return b""


class Transcoded:
    """Text in UTF-16, as some shells write it, in UTF-8."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        import codecs

        self.damage = stream.damage
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self, size: int, /) -> bytes:
        while data := self._stream.read(size):
            if text := self._decoder.decode(data):
                return text.encode("utf-8", "replace")
        return self._decoder.decode(b"", final=True).encode("utf-8", "replace")
