"""
The first hits of a fingerprint in full, then counted; bounded, and nothing lost from the totals.

What is counted stays here until it is drained into ``async_guard.summary``. A fingerprint that
makes room for others takes no count with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from async_guard.hit import Hit

SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Count:
    """So many hits of one fingerprint that ended in one way, and were not logged in full."""

    hit: Hit
    """One of them, for the names."""
    count: int


@dataclass(slots=True)
class Drained:
    """What was counted since the last time."""

    counts: list[Count] = field(default_factory=list)
    unnamed: int = 0
    """Hits of fingerprints that there was no room for."""
    dropped: int = 0
    """Of those counted, the ones that a full queue refused."""
    evicted: int = 0
    """Fingerprints that were forgotten; their next hit is logged in full again."""
    evicted_sample: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.counts or self.unnamed or self.evicted or self.dropped)


class Limiter:
    """Counts by fingerprint. Thread-safe, also when a finaliser runs in the middle of it."""

    def __init__(self, burst: int, most: int) -> None:
        self._burst = burst
        self._most = most
        self._lock = threading.RLock()
        self._logged: OrderedDict[str, int] = OrderedDict()
        self._counts: dict[tuple[str, str], list[Any]] = {}
        self._drained = Drained()
        self.totals: dict[str, int] = {}
        """Hits by outcome since the start."""

    def admit(self, fingerprint: str) -> bool:
        """Tell whether the next hit of *fingerprint* is to be logged in full."""
        with self._lock:
            logged = self._logged.get(fingerprint)
            if logged is not None and logged >= self._burst:
                self._logged.move_to_end(fingerprint)
                return False
            self._logged[fingerprint] = (logged or 0) + 1
            self._logged.move_to_end(fingerprint)
            if len(self._logged) > self._most:
                self._evict()
            return True

    def count(self, hit: Hit, outcome: str, times: int = 1) -> None:
        """Count *hit*, which is not logged in full."""
        with self._lock:
            entry = self._counts.get((hit.fingerprint, outcome))
            if entry is not None:
                entry[1] += times
            elif len(self._counts) < self._most:
                self._counts[hit.fingerprint, outcome] = [hit, times]
            else:
                self._drained.unnamed += times

    def total(self, outcome: str, times: int = 1) -> None:
        """Count every hit, logged or not."""
        with self._lock:
            self.totals[outcome] = self.totals.get(outcome, 0) + times

    def dropped(self, hit: Hit, from_log: bool) -> None:
        """Count what a full queue refused; what the log misses is in its next summary."""
        with self._lock:
            self._drained.dropped += hit.count
        if from_log:
            self.count(hit, hit.outcome, hit.count)

    def drain(self) -> Drained:
        """Return what was counted since the last time, and begin again."""
        with self._lock:
            drained, self._drained = self._drained, Drained()
            counts, self._counts = self._counts, {}
        drained.counts = [
            Count(replace(hit, outcome=outcome, count=times), times)
            for (_, outcome), (hit, times) in counts.items()
        ]
        return drained

    def _evict(self) -> None:
        forgotten, _ = self._logged.popitem(last=False)
        self._drained.evicted += 1
        if len(self._drained.evicted_sample) < SAMPLE:
            self._drained.evicted_sample.append(forgotten)
