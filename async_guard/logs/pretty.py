"""
Events over many lines, as ``gcloud logging read --format=json`` prints them.

The first line with a marker tells the indentation of the event's keys; what follows at least as
deep belongs to it.
"""

from __future__ import annotations

import re
from typing import Any

from async_guard.logs.decoding import decoded_text

MOST_LINES = 2000
_PAIR = re.compile(r'([ \t]+)"[^"\\]+"\s*:\s*\S')


class Pretty:
    """The lines of one object, from the first one of interest on."""

    def __init__(self, indent: int, text: str) -> None:
        self._indent = indent
        self.lines = [text]

    @classmethod
    def begun(cls, text: str) -> Pretty | None:
        """Return the object that *text* is a line of, if it looks like one."""
        match = _PAIR.match(text)
        if match is None or '\\"{' in text or '"{\\"' in text:
            return None
        inner = text.strip()
        if inner.endswith(("{", "[")) or _value("{" + inner.removesuffix(",") + "}") is not None:
            return cls(len(match[1]), text)
        return None

    def takes(self, text: str) -> bool:
        """Take the next line; False: the object is at its end."""
        if len(text) - len(text.lstrip()) < self._indent or len(self.lines) >= MOST_LINES:
            return False
        self.lines.append(text)
        return True

    def value(self) -> Any:
        """Return the object, or None."""
        return _value("{" + "".join(self.lines).strip().removesuffix(",") + "}")


def _value(text: str) -> Any:
    try:
        return decoded_text(text)
    except ValueError:
        return None
