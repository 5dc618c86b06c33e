"""
Lazy loads of relations where no loop runs: no error, but a query for every row.

They are counted per operation, by relation and call site. From the threshold on they are one hit
with the count, which is told when the operation is over.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from async_guard.hit import Hit

COUNTED = {
    "forward_relation",
    "reverse_one_to_one",
    "related_manager",
    "many_to_many",
    "generic_relation",
    "deferred_field",
}


class Load:
    """One relation read from one line in one operation."""

    __slots__ = ("context", "count", "hit", "told")

    def __init__(self) -> None:
        self.count = 0
        self.told = 0
        self.hit: Hit | None = None
        """Described when the threshold was reached, where the stack was there to be read."""
        self.context: contextvars.Context | None = None


Tell = Callable[[Hit, int, contextvars.Context], Any]


def tell_loads(loads: dict[Any, Load], tell: Tell) -> None:
    """Tell of every load that reached the threshold, and only of what was not told before."""
    for load in list(loads.values()):
        if load.hit is not None and load.context is not None and load.count > load.told:
            told, load.told = load.told, load.count
            tell(load.hit, load.count - told, load.context)
