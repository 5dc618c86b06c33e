"""
Tells when the server is about to end, so that nothing counted is lost with the process.

``atexit`` is not enough: uvicorn ends by raising the signal that it got with the default handler,
and the interpreter runs nothing after that. So where a server handles SIGTERM or SIGINT, its
handler is called by ours; where nobody does, the signal is left alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """Calls back before a server's own signal handlers do their work."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """
        Args:
            callback: called in the main thread, between any two instructions: it must not lock.
        """
        self._callback = callback
        self._theirs: dict[int, Any] = {}
        self._is_active = False
        self._ours = self._handle  # one object, to be told from others

    def install(self) -> None:
        """Stand before the handlers that there are now. May be called again and again."""
        self._is_active = True
        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signal handlers from the main thread only
        for number in _SIGNALS:
            theirs = signal.getsignal(number)
            if theirs is self._ours or theirs is signal.default_int_handler:
                continue
            if callable(theirs):
                self._theirs[number] = theirs
                signal.signal(number, self._ours)

    def uninstall(self) -> None:
        """Give the handlers back; in another thread than the main one, only stand aside."""
        self._is_active = False
        if threading.current_thread() is threading.main_thread():
            for number, theirs in self._theirs.items():
                if signal.getsignal(number) is self._ours:
                    signal.signal(number, theirs)
            self._theirs.clear()

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._is_active:
            with suppress(Exception):  # whatever happens to ours, theirs is called
                self._callback()
        theirs = self._theirs.get(number)
        if theirs is not None:
            theirs(number, frame)
