"""
A circuit breaker per fingerprint: what keeps failing or takes too long is not retried for a while.

Why not a library: pybreaker holds a thread's lock while the call runs, which blocks the loop when
two retries meet; aiobreaker and purgatory only wrap coroutines, and here a call is begun in one
thread and ended in another. What is needed is a counter and a clock.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from async_guard.settings import Settings


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    spent_s: float = 0.0
    window_ends: float = 0.0
    opened_at: float | None = None
    probing: bool = False


Tell = Callable[[str, str], None]


class Breakers:
    """Opened by failures or by a time budget; after a while one call is let through to probe."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_failures = settings.RETRY_MAX_FAILURES
        self._budget_s = settings.RETRY_BUDGET_S
        self._reset_s = settings.RETRY_RESET_S
        self._most = settings.MAX_FINGERPRINTS
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: OrderedDict[str, _Breaker] = OrderedDict()
        self.forced_open = False
        """Nothing is retried: for tests, and for those who have to stop it at once."""
        self.on_change: Tell = lambda event, fingerprint: None

    def admit(self, fingerprint: str) -> bool:
        """Tell whether a call may be retried; a breaker that has been open long enough lets one."""
        if self.forced_open:
            return False
        breaker = self._breakers.get(fingerprint)
        if breaker is None or breaker.opened_at is None:
            return True
        with self._lock:
            if self._clock() - breaker.opened_at < self._reset_s:
                return False
            breaker.probing = True
            breaker.opened_at = self._clock()  # a probe that never ends is followed by another
            return True

    def ended(self, fingerprint: str, took_s: float, *, failed: bool) -> None:
        """Count how a retry ended."""
        breaker = self._breakers.get(fingerprint)
        if breaker is None:
            if not failed and not self._budget_s:
                return
            breaker = self._add(fingerprint)
        with self._lock:
            change = self._count(breaker, took_s, failed)
        if change is not None:
            self.on_change(change, fingerprint)

    def _count(self, breaker: _Breaker, took_s: float, failed: bool) -> str | None:
        if breaker.probing:
            breaker.probing = False
            if failed:
                breaker.opened_at = self._clock()
                return None
            breaker.failures, breaker.spent_s, breaker.opened_at = 0, 0.0, None
            return CLOSED
        breaker.failures = breaker.failures + 1 if failed else 0
        too_slow = self._budget_s > 0 and self._spend(breaker, took_s)
        if breaker.opened_at is None and (too_slow or breaker.failures >= self._most_failures):
            breaker.opened_at = self._clock()
            return OPENED
        return None

    def _spend(self, breaker: _Breaker, took_s: float) -> bool:
        """Tell whether the retries of this minute took longer than the budget."""
        now = self._clock()
        if now >= breaker.window_ends:
            breaker.window_ends, breaker.spent_s = now + WINDOW_S, 0.0
        breaker.spent_s += took_s
        return breaker.spent_s > self._budget_s

    def _add(self, fingerprint: str) -> _Breaker:
        with self._lock:
            breaker = self._breakers.setdefault(fingerprint, _Breaker())
            if len(self._breakers) > self._most:
                self._breakers.popitem(last=False)
            return breaker


WINDOW_S = 60.0
OPENED, CLOSED = "async_guard.breaker_opened", "async_guard.breaker_closed"
