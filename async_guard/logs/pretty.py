"""
Events over many lines, as ``gcloud logging read --format=json`` prints them.

The first line with a marker tells the indentation of the event's keys; what follows at least as
deep belongs to it, and so does what stands before it, up to where the object begins.
"""

from __future__ import annotations

import re
from typing import Any

from async_guard.logs.decoding import decoded_text

MOST_LINES = 2000
_PAIR = re.compile(r'([ \t]+)"[^"\\]+"\s*:\s*\S')


class Pretty:
    """The lines of one object, from the first one of interest on."""

    def __init__(self, indent: int, text: str, before: str) -> None:
        self._indent = indent
        self._first = _lines_of_object(before, indent)
        self.lines = [text]

    @classmethod
    def begun(cls, text: str, before: str = "") -> Pretty | None:
        """Return the object that *text* is a line of, if it looks like one."""
        match = _PAIR.match(text)
        if match is None or '\\"{' in text or '"{\\"' in text:
            return None
        inner = text.strip()
        if inner.endswith(("{", "[")) or _value("{" + inner.removesuffix(",") + "}") is not None:
            return cls(len(match[1]), text, before)
        return None

    def takes(self, text: str) -> bool:
        """Take the next line; False: the object is at its end."""
        if len(text) - len(text.lstrip()) < self._indent or len(self.lines) >= MOST_LINES:
            return False
        self.lines.append(text)
        return True

    def value(self) -> Any:
        """Return the object, or None."""
        rest = "".join(self.lines).strip().removesuffix(",") + "}"
        found = _value("{" + self._first + rest)
        return _value("{" + rest) if found is None and self._first else found


def _lines_of_object(before: str, indent: int) -> str:
    """Return the end of *before* that is at least as deep, if an object begins there."""
    lines: list[str] = []
    for line in reversed(before.splitlines(keepends=True)):
        if len(line) - len(line.lstrip()) < indent:
            return "".join(reversed(lines)) if line.rstrip().endswith("{") else ""
        lines.append(line)
    return ""


def _value(text: str) -> Any:
    try:
        return decoded_text(text)
    except ValueError:
        return None
