"""
Tells when the server is about to end, so that nothing counted is lost with the process.

``atexit`` is not enough: uvicorn ends by raising the signal that it got with the default handler,
and the interpreter runs nothing after that. So where a server handles SIGTERM or SIGINT already,
its handler is called by one of ours; where nobody does, the signal is left alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """Chains a callback before a server's own signal handlers."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """
        Args:
            callback: called in the main thread, between any two instructions: it must not lock.
        """
        self._callback = callback
        self._ours: dict[signal.Signals, tuple[Any, Any]] = {}

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signal handlers from the main thread only
        for number in _SIGNALS:
            theirs = signal.getsignal(number)
            if callable(theirs) and theirs is not signal.default_int_handler:
                ours = self._chained(theirs)
                signal.signal(number, ours)
                self._ours[number] = ours, theirs

    def uninstall(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, (ours, theirs) in self._ours.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, theirs)
        self._ours.clear()

    def _chained(self, theirs: Callable[[int, FrameType | None], Any]) -> Callable[..., Any]:
        def handler(number: int, frame: FrameType | None) -> Any:
            self._callback()
            return theirs(number, frame)

        return handler
