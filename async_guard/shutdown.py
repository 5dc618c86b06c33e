"""
Tells when the server is about to end, so that nothing counted is lost with the process.

``atexit`` is not enough: uvicorn ends by raising the signal that it got with the default handler,
and after SIGTERM the interpreter runs nothing more. So where a server handles SIGTERM, its handler
is called by ours; where nobody does, the signal is left alone. SIGINT is always: it ends in a
``KeyboardInterrupt``, after which ``atexit`` does its work.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any


class ShutdownSignal:
    """Calls back before a server's own handler of SIGTERM does its work."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """
        Args:
            callback: called in the main thread, between any two instructions: it must not lock.
        """
        self._callback = callback
        self._theirs: Any = None
        self._is_active = False
        self._ours = self._handle  # one object, to be told from others

    def install(self) -> None:
        """Stand before the handler that there is now. May be called again and again."""
        self._is_active = True
        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signal handlers from the main thread only
        theirs = signal.getsignal(signal.SIGTERM)
        if callable(theirs) and theirs is not self._ours:
            self._theirs = theirs
            signal.signal(signal.SIGTERM, self._ours)

    def uninstall(self) -> None:
        """Give the handler back; in another thread than the main one, only stand aside."""
        self._is_active = False
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) is self._ours:
                signal.signal(signal.SIGTERM, self._theirs)
            self._theirs = None

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._is_active:
            with suppress(Exception):  # whatever happens to ours, theirs is called
                self._callback()
        if self._theirs is not None:
            self._theirs(number, frame)
