"""
The first hits of a fingerprint in full, then counted; bounded, and nothing lost from the totals.

What is counted stays here until it is drained into ``async_guard.summary``. A fingerprint that
makes room for others takes no count with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from async_guard.hit import Hit

SAMPLE = 20


@dataclass(slots=True)
class Drained:
    """What was counted since the last time."""

    hits: list[Hit] = field(default_factory=list)
    """One per fingerprint and outcome, with the count."""
    unnamed: int = 0
    """Hits of fingerprints that there was no room for."""
    dropped: int = 0
    """Events that a full queue refused; they are counted."""
    evicted: int = 0
    """Fingerprints that were forgotten; their next hit is logged in full again."""
    evicted_sample: list[str] = field(default_factory=list)

    @property
    def is_lossy(self) -> bool:
        return bool(self.unnamed or self.dropped or self.evicted)

    def __bool__(self) -> bool:
        return bool(self.hits) or self.is_lossy


class Counts:
    """Hits by fingerprint and outcome. Bounded, and reentrant: a finaliser may come in between."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.RLock()
        self._counts: dict[tuple[str, str], tuple[Hit, list[int]]] = {}
        self._lost = Drained()

    def __bool__(self) -> bool:
        return bool(self._counts) or self._lost.is_lossy

    def count(self, hit: Hit, outcome: str, times: int = 1) -> None:
        """Count *hit*, which is not logged in full, for the next summary."""
        with self._lock:
            self._add(hit, outcome, times)

    def _add(self, hit: Hit, outcome: str, times: int) -> None:
        key = hit.fingerprint, outcome
        if key not in self._counts and len(self._counts) >= self._most:
            self._lost.unnamed += times
        else:
            self._counts.setdefault(key, (hit, [0]))[1][0] += times

    def drop(self, hit: Hit, outcome: str) -> None:
        """Count what a full queue refused."""
        with self._lock:
            self._lost.dropped += 1
            self._add(hit, outcome, hit.count)

    def evict(self, fingerprint: str) -> None:
        """Count a fingerprint that is forgotten."""
        with self._lock:
            self._lost.evicted += 1
            if len(self._lost.evicted_sample) < SAMPLE:
                self._lost.evicted_sample.append(fingerprint)

    def drain(self) -> Drained:
        """Return what was counted since the last time, and begin again."""
        with self._lock:
            drained, self._lost = self._lost, Drained()
            counts, self._counts = self._counts, {}
        drained.hits = [
            replace(hit, outcome=outcome, count=times)
            for (_, outcome), (hit, [times]) in counts.items()
        ]
        return drained

    def put_back(self, drained: Drained) -> None:
        """Count once more what could not be written."""
        for hit in drained.hits:
            self.count(hit, hit.outcome, hit.count)
        with self._lock:
            self._lost.unnamed += drained.unnamed
            self._lost.dropped += drained.dropped
            self._lost.evicted += drained.evicted
            room = SAMPLE - len(self._lost.evicted_sample)
            self._lost.evicted_sample += drained.evicted_sample[:room]


class Limiter(Counts):
    """Decides which hits are logged in full, and counts the others."""

    def __init__(self, burst: int, most: int) -> None:
        super().__init__(most)
        self._burst = burst
        self._logged: OrderedDict[str, int] = OrderedDict()
        self._totals: dict[str, list[int]] = {}

    @property
    def totals(self) -> dict[str, int]:
        """Hits by outcome since the start."""
        return {outcome: times for outcome, [times] in self._totals.items()}

    def admit(self, fingerprint: str) -> bool:
        """Tell whether the next hit of *fingerprint* is to be logged in full."""
        with self._lock:
            # any step may be interrupted by a finaliser that admits, and evicts: none relies on
            # what the one before has found
            logged = self._logged.pop(fingerprint, 0)
            self._logged[fingerprint] = min(logged + 1, self._burst)
            if len(self._logged) > self._most:
                self.evict(self._logged.popitem(last=False)[0])
            return logged < self._burst

    def would_admit(self, fingerprint: str) -> bool:
        """Tell what ``admit`` would, and change nothing."""
        return self._logged.get(fingerprint, 0) < self._burst

    def count(self, hit: Hit, outcome: str, times: int = 1) -> None:
        with self._lock:
            self._add(hit, outcome, times)
            self._total(outcome, times)

    def total(self, outcome: str, times: int = 1) -> None:
        """Count in the totals a hit that is logged in full."""
        with self._lock:
            self._total(outcome, times)

    def _total(self, outcome: str, times: int) -> None:
        # nothing is called between load and store: no finaliser comes in there
        self._totals.setdefault(outcome, [0])[0] += times
