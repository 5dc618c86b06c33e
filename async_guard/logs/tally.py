"""
Events to problems: what the log says about each fingerprint.

Memory is bounded by the number of fingerprints: names and samples are kept up to a number, the
trend in ever wider buckets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from async_guard.hit import Hit
from async_guard.logs.decoding import decoded
from async_guard.logs.events import Event, as_hit, as_number, clean
from async_guard.logs.traits import IDS, NAMES, Traits

MOST_NAMES = 100
MOST_SAMPLES = 5
MOST_BUCKETS = 64
MOST_WAYS = 8
LONGEST_VALUE = 1 << 16
NARROWEST_S = 60
OTHERS = "…"


class Names(Counter[str]):
    """How many hits each name has; beyond the first ones they are counted together."""

    def count(self, name: str, times: int) -> None:
        self[name if name in self or len(self) < MOST_NAMES else OTHERS] += times

    def add(self, other: Names) -> None:
        for name, times in other.items():
            self.count(name, times)


@dataclass(slots=True)
class Amounts:
    """Durations that were logged."""

    number: int = 0
    total: float = 0.0
    most: float = 0.0

    def count(self, value: Any) -> None:
        """Count *value*, if it is a number."""
        amount = as_number(value)
        if amount is None:
            return
        self.number += 1
        self.total += amount
        if amount > self.most:
            self.most = amount

    def add(self, other: Amounts) -> None:
        self.number += other.number
        self.total += other.total
        self.most = max(self.most, other.most)

    @property
    def mean(self) -> float:
        return self.total / self.number if self.number else 0.0


@dataclass(slots=True)
class Trend:
    """Hits over time, in buckets that grow wider as time goes on."""

    width: int = NARROWEST_S
    buckets: dict[int, int] = field(default_factory=dict)

    def count(self, when: float, times: int) -> None:
        bucket = int(when // self.width)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        while len(self.buckets) > MOST_BUCKETS:
            self._widen()

    def add(self, other: Trend) -> None:
        while self.width < other.width:
            self._widen()
        for bucket, times in other.buckets.items():
            self.count(bucket * other.width, times)

    def _widen(self) -> None:
        buckets, self.buckets = self.buckets, {}
        self.width *= 2
        for bucket, times in buckets.items():
            self.buckets[bucket // 2] = self.buckets.get(bucket // 2, 0) + times

    def points(self) -> list[tuple[float, int]]:
        """Return begin and hits of every bucket from the first to the last, empty ones too."""
        if not self.buckets:
            return []
        first, last = min(self.buckets), max(self.buckets)
        step = max(
            1, (last - first) // (4 * MOST_BUCKETS) + 1
        )  # a gap of years is no list of years
        places = range(first, last + 1, step)
        return [
            (place * self.width, sum(self.buckets.get(place + i, 0) for i in range(step)))
            for place in places
        ]


def way_of(event: Event) -> Hashable:
    """
    Return what may differ between hits of one problem so that other code has to change, too.

    Of a sync function those are its callers.
    """
    way = event.traits.place
    if not event.traits.is_async:
        way += _own_places(event.frames)
    try:
        hash(way)
    except TypeError:  # a log may hold anything
        return repr(way)
    return way


def _own_places(frames: Any) -> tuple[Any, ...]:
    """Return files and lines of the project's own frames."""
    if isinstance(frames, bytes):
        return _own_places_in(frames)
    if not isinstance(frames, list):
        return ()
    own = [each for each in frames if isinstance(each, dict) and each.get("in_app")]
    return tuple((each.get("file"), each.get("line")) for each in own)


@lru_cache(256)
def _own_places_in(frames: bytes) -> tuple[Any, ...]:
    return _own_places(decoded(frames))


def _as_text(keys: dict[str, Any]) -> str:
    """Return JSON, without what is longer than any value of ours."""
    short = {
        key: value
        for key, value in keys.items()
        if not isinstance(value, str) or len(value) <= LONGEST_VALUE
    }
    return json.dumps(short)


@dataclass
class Tally:
    """One problem."""

    fingerprint: str
    sample: Event
    """What it is described by."""
    count: int = 0
    """Hits: the sum of ``async_guard.count``."""
    lines: int = 0
    first_seen: float | None = None
    last_seen: float | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in IDS})
    trend: Trend = field(default_factory=Trend)
    duration_ms: Amounts = field(default_factory=Amounts)
    retry_ms: Amounts = field(default_factory=Amounts)
    retry_queries: int = 0
    _ways: dict[Hashable, str] = field(default_factory=dict)
    """Of each way a hit in full, as far as there is room; as JSON, which is small."""
    _names: dict[str, Names] = field(default_factory=lambda: {name: Names() for name in NAMES})
    _together: dict[Traits, int] = field(default_factory=dict)
    """Hits by all their names: the same few again and again, so this is one count, not eight."""

    @cached_property
    def hit(self) -> Hit:
        """One hit of the problem, as far as the log describes it."""
        return as_hit(self.sample.keys)

    def count_event(self, event: Event) -> None:
        traits, count, when = event.traits, event.count, event.when
        self.count += count
        self.lines += 1
        self.outcomes[traits.outcome] += count
        if when is not None:
            self._see(when, when)
            self.trend.count(when, count)
        if event.rank > self.sample.rank:
            self.sample = event
        if traits.is_hit and (way := way_of(event)) not in self._ways:
            self._keep_way(way, _as_text(event.keys))
        self._together[traits] = self._together.get(traits, 0) + count
        if len(self._together) > MOST_NAMES:
            self._fold()
        self._count_details(event)

    def _count_details(self, event: Event) -> None:
        for kept, found in zip(self.samples.values(), event.ids, strict=True):
            _keep(kept, found)
        took_ms, retry_ms, queries = event.amounts
        if took_ms is not None:
            self.duration_ms.count(took_ms)
        if retry_ms is not None:
            self.retry_ms.count(retry_ms)
        if queries is not None:
            self.retry_queries += int(as_number(queries) or 0)

    @property
    def names(self) -> dict[str, Names]:
        """How many hits each operation, field, route and so on has."""
        self._fold()
        return self._names

    def _fold(self) -> None:
        together, self._together = self._together, {}
        for traits, times in together.items():
            for name, value in zip(NAMES, traits.names, strict=True):
                if isinstance(value, str):
                    self._names[name].count(clean(value), times)

    def _see(self, first: float, last: float) -> None:
        self.first_seen = first if self.first_seen is None else min(self.first_seen, first)
        self.last_seen = last if self.last_seen is None else max(self.last_seen, last)

    @property
    def ways(self) -> list[dict[str, Any]]:
        """The keys of a hit in full for each way that led there, as far as there is room."""
        return [json.loads(keys) for keys in self._ways.values()]

    def _keep_way(self, way: Hashable, keys: str) -> None:
        if way in self._ways:
            return
        if len(self._ways) >= MOST_WAYS:
            del self._ways[next(iter(self._ways))]  # the code may have changed since
        self._ways[way] = keys

    def add(self, other: Tally) -> None:
        self.count += other.count
        self.lines += other.lines
        self.outcomes.update(other.outcomes)
        if other.first_seen is not None and other.last_seen is not None:
            self._see(other.first_seen, other.last_seen)
        self.trend.add(other.trend)
        if other.sample.rank > self.sample.rank:
            self.sample = other.sample
            self.__dict__.pop("hit", None)
        mine = self.names
        for name, names in other.names.items():
            mine[name].add(names)
        for kept, samples in zip(self.samples.values(), other.samples.values(), strict=True):
            for sample in samples:
                _keep(kept, sample)
        self.duration_ms.add(other.duration_ms)
        self.retry_ms.add(other.retry_ms)
        self.retry_queries += other.retry_queries
        for way, keys in other._ways.items():
            self._keep_way(way, keys)


def _keep(kept: list[str], sample: Any) -> None:
    """Add *sample* to those that are *kept*, if it is one and there is room."""
    if len(kept) < MOST_SAMPLES and isinstance(sample, str) and sample not in kept:
        sample = clean(sample)
        if sample not in kept:
            kept.append(sample)


class Tallies:
    """All problems of a log."""

    def __init__(self) -> None:
        self._by_fingerprint: dict[str, Tally] = {}

    def count(self, event: Event) -> None:
        fingerprint = event.traits.fingerprint
        if fingerprint is None:
            return
        tally = self._by_fingerprint.get(fingerprint)
        if tally is None:
            tally = self._by_fingerprint[fingerprint] = Tally(fingerprint, event)
        tally.count_event(event)

    def add(self, other: Iterable[Tally]) -> None:
        for tally in other:
            known = self._by_fingerprint.get(tally.fingerprint)
            if known is None:
                self._by_fingerprint[tally.fingerprint] = tally
            else:
                known.add(tally)

    def __iter__(self) -> Iterator[Tally]:
        return iter(self._by_fingerprint.values())

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    def ranked(self) -> list[Tally]:
        """Return the most frequent first."""
        return sorted(self, key=lambda tally: (-tally.count, tally.fingerprint))
