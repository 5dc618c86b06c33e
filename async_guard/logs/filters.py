"""Which events and which problems a report is about."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase

from async_guard.logs.events import Event
from async_guard.logs.failures import CommandFailed
from async_guard.logs.tally import Tally

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Each is a list of fnmatch patterns, of which one must fit; empty: everything."""

    since: float | None = None
    until: float | None = None
    kind: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    relation: tuple[str, ...] = ()
    field: tuple[str, ...] = ()
    """A problem of several fields is shown with all its hits: a summary names no field."""
    owner: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    min_count: int = 0

    @property
    def are_about_time(self) -> bool:
        return self.since is not None or self.until is not None

    @property
    def admit_every_event(self) -> bool:
        """They leave out problems at most, so what is not there does not occur."""
        return replace(self, field=(), min_count=0) == Filters()

    def admit_row(self, event: Event) -> bool:
        """Tell whether *event* is exported: where it stands alone, its own field must fit."""
        return self.admit(event) and _fits(self.field, event.traits.field)

    def admit(self, event: Event) -> bool:
        """Tell whether *event* counts."""
        traits = event.traits
        return (
            self._is_in_time(event.when)
            and _fits(self.outcome, traits.outcome)
            and _fits(self.kind, traits.kind)
            and _fits(self.relation, traits.relation)
            and _fits(self.owner, traits.owner)
            and _fits(self.service, traits.service)
            and _fits(self.version, traits.version)
        )

    def _is_in_time(self, when: float | None) -> bool:
        if when is None:
            return not self.are_about_time
        return (self.since is None or when >= self.since) and (
            self.until is None or when < self.until
        )

    def admit_problem(self, tally: Tally) -> bool:
        """Tell whether a problem is shown."""
        fields = tally.names["fields"]
        return tally.count >= self.min_count and (
            not self.field or any(_fits(self.field, name) for name in fields)
        )


def _fits(patterns: tuple[str, ...], value: object) -> bool:
    if not patterns:
        return True
    return isinstance(value, str) and any(fnmatchcase(value, pattern) for pattern in patterns)


def point_in_time(text: str, now: float | None = None) -> float:
    """
    Return seconds since 1970 for a date, or for a duration before now.

    Raises:
        CommandFailed: it is neither.
    """
    if _DURATION.fullmatch(text.strip()):
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        return (time.time() if now is None else now) - seconds
    try:
        date = datetime.fromisoformat(text.strip())
        return date.astimezone().timestamp()  # without a zone it is the reader's own time
    except (ValueError, OverflowError, OSError):
        raise CommandFailed(
            f"{text!r} is neither a duration, such as 90m or 7d, nor a date, such as "
            "2026-01-31 or 2026-01-31T12:00:00Z."
        ) from None
