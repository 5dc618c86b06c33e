"""
Which calls may be run again, and the hits that were noticed in them.

A call that may be run again holds its hits: how they end is not how the exception ends, but how
the second run does. Whether there were any, the caller sees in one number.
"""

from __future__ import annotations

import itertools
import threading
from types import CodeType, FrameType
from typing import Any


class Watch:
    """The held hits of a process."""

    def __init__(self) -> None:
        self.never: dict[int, CodeType] = {}
        """Of the functions that are marked ``no_retry``, by identity: a copy is not."""
        self.count = 0
        """Another number after every held hit. Read before and after each call."""
        self.codes: set[CodeType] = set()
        """Of the functions that hold hits."""
        self._held: list[Any] = []
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # loops run in several threads; a finaliser comes in between

    def holder_of(self, frame: FrameType | None) -> FrameType | None:
        """Return the frame that an access below it belongs to, if there is one."""
        codes = self.codes
        if codes:
            while frame is not None:
                if frame.f_code in codes:
                    return frame
                frame = frame.f_back
        return None

    def excludes(self, frame: FrameType | None) -> bool:
        """Tell whether an access in *frame* is made below a function that is not to be retried."""
        while self.never and frame is not None:
            if id(frame.f_code) in self.never:
                return True
            frame = frame.f_back
        return False

    def hold(self, pending: Any) -> None:
        with self._lock:
            self._held.append(pending)
        self.count = next(self._numbers)

    def claim(self, holder: FrameType) -> list[Any]:
        """Return the hits that were noticed below *holder*, which answers for them now."""
        with self._lock:
            mine = [each for each in self._held if each.holder is holder]
            self._held = [each for each in self._held if each.holder is not holder]
            return mine


watch = Watch()
