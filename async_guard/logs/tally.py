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
from functools import cached_property
from typing import Any

from async_guard.hit import Hit
from async_guard.logs.events import Event, as_hit, as_number, clean

MOST_NAMES = 100
MOST_SAMPLES = 5
MOST_BUCKETS = 64
MOST_WAYS = 8
LONGEST_VALUE = 1 << 16
NARROWEST_S = 60
OTHERS = "…"
_NAMES = {
    "operations": "graphql.operation.name",
    "fields": "async_guard.graphql.field",
    "routes": "http.route",
    "views": "async_guard.view",
    "services": "service.name",
    "versions": "service.version",
    "environments": "deployment.environment.name",
    "strategies": "async_guard.retry.strategy",
}
_PLACE = (
    "code.file.path",
    "code.line.number",
    "code.column.number",
    "async_guard.code.digest",
    "async_guard.graphql.parent",
)
_SAMPLES = {
    "request_ids": "request_id",
    "correlation_ids": "correlation_id",
    "trace_ids": "trace_id",
}


_NAME_KEYS = tuple(_NAMES.values())


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

    def count(self, amount: float) -> None:
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


@dataclass(slots=True)
class Sample:
    """The event that a problem is described by."""

    keys: dict[str, Any]
    rank: tuple[bool, bool, float]

    @classmethod
    def of(cls, event: Event) -> Sample:
        return cls(event.keys, rank(event))


def way_of(keys: dict[str, Any]) -> Hashable:
    """
    Return what may differ between hits of one problem so that other code has to change, too.

    Of a sync function those are its callers.
    """
    way = tuple(map(keys.get, _PLACE))
    frames = keys.get("async_guard.frames")
    if keys.get("async_guard.code.in_async_def") is not True and isinstance(frames, list):
        own = [each for each in frames if isinstance(each, dict) and each.get("in_app")]
        way += tuple((each.get("file"), each.get("line")) for each in own)
    try:
        hash(way)
    except TypeError:  # a log may hold anything
        return repr(way)
    return way


def _as_text(keys: dict[str, Any]) -> str:
    """Return JSON, without what is longer than any value of ours."""
    short = {
        key: value
        for key, value in keys.items()
        if not isinstance(value, str) or len(value) <= LONGEST_VALUE
    }
    return json.dumps(short)


def rank(event: Event) -> tuple[bool, bool, float]:
    """Tell how well *event* describes its problem: in full, and lately."""
    return "async_guard.frames" in event.keys, event.is_hit, event.when or 0.0


@dataclass
class Tally:
    """One problem."""

    fingerprint: str
    sample: Sample
    count: int = 0
    """Hits: the sum of ``async_guard.count``."""
    lines: int = 0
    first_seen: float | None = None
    last_seen: float | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _SAMPLES})
    trend: Trend = field(default_factory=Trend)
    duration_ms: Amounts = field(default_factory=Amounts)
    retry_ms: Amounts = field(default_factory=Amounts)
    retry_queries: int = 0
    _ways: dict[Hashable, str] = field(default_factory=dict)
    """Of each way a hit in full, as far as there is room; as JSON, which is small."""
    _names: dict[str, Names] = field(default_factory=lambda: {name: Names() for name in _NAMES})
    _together: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """Hits by all their names: the same few again and again, so this is one count, not eight."""

    @cached_property
    def hit(self) -> Hit:
        """One hit of the problem, as far as the log describes it."""
        return as_hit(self.sample.keys)

    def count_event(self, event: Event) -> None:
        self.count += event.count
        self.lines += 1
        self.outcomes[event.outcome] += event.count
        if event.when is not None:
            self._see(event.when, event.when)
            self.trend.count(event.when, event.count)
        if (found := rank(event)) > self.sample.rank:
            self.sample = Sample(event.keys, found)
        if event.is_hit and (way := way_of(event.keys)) not in self._ways:
            self._keep_way(way, _as_text(event.keys))
        self._count_details(event)

    def _count_details(self, event: Event) -> None:
        keys = event.keys
        self._count_names(tuple(map(keys.get, _NAME_KEYS)), event.count)
        for name, key in _SAMPLES.items():
            kept = self.samples[name]
            if key in keys and len(kept) < MOST_SAMPLES and keys[key] not in kept:
                self._keep(name, keys[key])
        if "async_guard.duration_ms" in keys:
            self._count_amount(self.duration_ms, keys["async_guard.duration_ms"])
        if "async_guard.retry.duration_ms" in keys:
            self._count_amount(self.retry_ms, keys["async_guard.retry.duration_ms"])
        if "async_guard.retry.queries" in keys:
            self.retry_queries += int(as_number(keys["async_guard.retry.queries"]) or 0)

    def _count_names(self, found: tuple[Any, ...], times: int) -> None:
        try:
            self._together[found] = self._together.get(found, 0) + times
        except TypeError:  # somebody's key holds a list
            self._count_names(
                tuple(each if isinstance(each, str) else None for each in found), times
            )
        if len(self._together) > MOST_NAMES:
            self._fold()

    @property
    def names(self) -> dict[str, Names]:
        """How many hits each operation, field, route and so on has."""
        self._fold()
        return self._names

    def _fold(self) -> None:
        together, self._together = self._together, {}
        for found, times in together.items():
            for name, value in zip(_NAMES, found, strict=True):
                if isinstance(value, str):
                    self._names[name].count(clean(value), times)

    def _count_amount(self, amounts: Amounts, value: Any) -> None:
        if (amount := as_number(value)) is not None:
            amounts.count(amount)

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

    def _keep(self, name: str, sample: Any) -> None:
        kept = self.samples[name]
        if isinstance(sample, str) and len(kept) < MOST_SAMPLES and clean(sample) not in kept:
            kept.append(clean(sample))

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
        for name, samples in other.samples.items():
            for sample in samples:
                self._keep(name, sample)
        self.duration_ms.add(other.duration_ms)
        self.retry_ms.add(other.retry_ms)
        self.retry_queries += other.retry_queries
        for way, keys in other._ways.items():
            self._keep_way(way, keys)


class Tallies:
    """All problems of a log."""

    def __init__(self) -> None:
        self._by_fingerprint: dict[str, Tally] = {}

    def count(self, event: Event) -> None:
        if event.fingerprint is None:
            return
        tally = self._by_fingerprint.get(event.fingerprint)
        if tally is None:
            tally = Tally(event.fingerprint, Sample.of(event))
            self._by_fingerprint[event.fingerprint] = tally
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
