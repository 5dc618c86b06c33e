"""
What an event says, by how often it differs: traits, which most hits of a problem have in common,
and details, which every hit has of its own.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from async_guard.hit import HIT, SCHEMA_VERSION, SUMMARY

UNKNOWN = "unknown"
LONGEST_REMEMBERED = 1 << 12
"""Bytes of a value: what is remembered must not grow with what a log may hold."""
NAMES = {
    "operations": "graphql.operation.name",
    "fields": "async_guard.graphql.field",
    "routes": "http.route",
    "views": "async_guard.view",
    "services": "service.name",
    "versions": "service.version",
    "environments": "deployment.environment.name",
    "strategies": "async_guard.retry.strategy",
}
PLACE = (
    "code.file.path",
    "code.line.number",
    "code.column.number",
    "async_guard.code.digest",
    "async_guard.graphql.parent",
)
IDS = {
    "request_ids": "request_id",
    "correlation_ids": "correlation_id",
    "trace_ids": "trace_id",
}
AMOUNTS = (
    "async_guard.duration_ms",
    "async_guard.retry.duration_ms",
    "async_guard.retry.queries",
)
COUNT = "async_guard.count"
TRAITS = (
    "async_guard.fingerprint",
    "async_guard.outcome",
    "async_guard.schema_version",
    "async_guard.kind",
    "async_guard.relation",
    "async_guard.owner",
    "async_guard.code.in_async_def",
    *NAMES.values(),
    *PLACE,
)
DETAILS = ("async_guard.frames", "async_guard.hit_id", *IDS.values(), *AMOUNTS)


class Traits:
    """What many hits of a problem have in common: looked at once, for all of them."""

    __slots__ = (
        *("is_hit", "fingerprint", "outcome", "is_odd", "is_newer"),
        *("kind", "relation", "owner", "field", "service", "version", "is_async", "names", "place"),
    )

    def __init__(self, name: str, values: tuple[Any, ...]) -> None:
        """
        Args:
            name: the event's.
            values: what it says for each of ``TRAITS``, or None.
        """
        fingerprint, outcome, version, *others = values
        self.kind, self.relation, self.owner, is_async, *rest = others
        self.is_hit = name == HIT
        self.fingerprint = fingerprint if name in (HIT, SUMMARY) else None
        """None: it tells what there was no room for."""
        is_told = isinstance(outcome, str) and outcome.isidentifier()
        self.outcome: str = outcome if is_told else UNKNOWN
        self.is_odd = not is_told and self.fingerprint is not None
        """A value had to be mended."""
        self.is_newer = _is_newer(version)
        """Of a major version that this reader does not know."""
        self.is_async = is_async is True
        self.names = tuple(rest[: len(NAMES)])
        """Who met it: what it says for each of ``NAMES``."""
        self.place = tuple(rest[len(NAMES) :])
        named = dict(zip(NAMES, self.names, strict=True))
        self.field = named["fields"]
        self.service, self.version = named["services"], named["versions"]


_known = lru_cache(1024)(Traits)


def traits_of(name: str, values: tuple[Any, ...]) -> Traits:
    """Return the ``Traits``, the same object for the same arguments while it is remembered."""
    try:
        if max(map(sys.getsizeof, values)) < LONGEST_REMEMBERED:
            return _known(name, values)
    except TypeError:  # a log may hold anything, lists too
        pass
    return Traits(name, values)


def _is_newer(version: Any) -> bool:
    if version == SCHEMA_VERSION:
        return False
    major = str(version).split(".", 1)[0]
    return major.isdigit() and len(major) < 9 and int(major) > int(SCHEMA_VERSION.split(".")[0])
