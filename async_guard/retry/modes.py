"""
Which retry is on: ``off``, ``rerun`` or ``resume``; the one switch of all that is in this package.

Nothing of it is imported or patched while it is off.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

OFF, RERUN, RESUME = "off", "rerun", "resume"
MODES = (OFF, RERUN, RESUME)


@dataclass(slots=True, eq=False)
class _Block:
    before: str
    """What was on where it was entered."""


class Switch:
    """What is on. The attributes are read on every request, so they are plain."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._machine: Any = None
        self._blocks: list[_Block] = []
        self.mode = OFF
        self.drive: Callable[[Any], Awaitable[Any]] | None = None
        """Awaits a coroutine so that its calls may wait; None unless ``resume``."""
        self.drive_stream: Callable[[Any], Any] | None = None
        """The same for an asynchronous generator."""

    def set(self, mode: str) -> None:
        """
        Turn to *mode*.

        Raises:
            ImproperlyConfigured: if there is no such mode, or greenlet is missing.
        """
        if mode not in MODES:
            raise ImproperlyConfigured(f"AUTO_RETRY must be one of {MODES}, not {mode!r}.")
        with self._lock:
            if mode == self.mode:
                return
            machine = _machine_of(mode)
            if self._machine is not None:
                self._machine.uninstall()
            self._machine = machine
            self.mode, self.drive, self.drive_stream = OFF, None, None
            if machine is not None:
                machine.install()
                self.drive, self.drive_stream = machine.drive, machine.drive_stream
            self.mode = mode

    @contextmanager
    def turned(self, mode: str) -> Iterator[None]:
        """Turn to *mode* until the block ends. Blocks of several tasks may end in any order."""
        with self._lock:
            block = _Block(self.mode)
            self.set(mode)
            self._blocks.append(block)
        try:
            yield
        finally:
            with self._lock:
                self._leave(block)

    def _leave(self, block: _Block) -> None:
        place = self._blocks.index(block)
        del self._blocks[place]
        if place == len(self._blocks):
            self.set(block.before)
        else:  # the next one that was entered is to give back what this one had found
            self._blocks[place].before = block.before

    @property
    def machine(self) -> Any:
        return self._machine


def _machine_of(mode: str) -> Any:
    if mode == OFF:
        return None
    module = importlib.import_module("async_guard.retry.machine")
    try:
        return module.Machine(with_resume=mode == RESUME)
    except ImportError as error:
        raise ImproperlyConfigured(str(error)) from error


switch = Switch()


def driven(awaitable: Any) -> Any:
    """Return *awaitable*, so that its synchronous calls may wait where ``resume`` is on."""
    drive = switch.drive
    return awaitable if drive is None else drive(awaitable)


def set_auto_retry(mode: str) -> None:
    """
    Turn the retry to *mode* from now on, whatever the settings say; the guard must be installed.

    Raises:
        ImproperlyConfigured: if there is no such mode, or greenlet is missing.
    """
    switch.set(mode)


@contextmanager
def retrying(mode: str) -> Iterator[None]:
    """
    Retry in this way until the block ends, in the whole process; install the guard if it is not.

    Args:
        mode: ``"off"``, ``"rerun"`` or ``"resume"``.
    """
    from async_guard.guard import guard

    with guard.guarded(), switch.turned(mode):
        yield
