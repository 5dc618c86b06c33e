"""
Which fields go to the worker thread at once: those that needed it before.

A route is learned from a hit, is forgotten after a while (the code may have been mended, the rows
may come with what they lacked), and there is a bound on how many there are.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any


class Route:
    """What is known of a field that needs the worker thread."""

    __slots__ = (
        "ends",
        "hit",
        "name",
        "plan",
        "problem",
        "relation",
        "suffices",
        "together",
        "uses",
    )

    def __init__(
        self, plan: Any, problem: Any, hit: Any, relation: str | None, lasts_s: float
    ) -> None:
        self.plan = plan
        self.hit = hit
        """The one that it was learned from."""
        self.name: str = plan.name
        """``Type.field``."""
        self.problem = problem
        self.relation = relation
        """The single-valued relation of the source object that is loaded for all at once."""
        self.suffices = True
        """What the field needs is the relation: where that is loaded, it runs in the loop."""
        self.together = True
        """The relation can be loaded for many rows at once."""
        self.ends = time.monotonic() + lasts_s
        self.uses = 0

    def is_over(self) -> bool:
        """Tell whether it is to be learned again."""
        return time.monotonic() > self.ends

    def is_loaded(self, source: Any) -> bool:
        """Tell whether *source* comes with what the route is for: then nothing waits."""
        if self.relation is None or not self.suffices:
            return False
        state = getattr(source, "_state", None)
        return self.relation in getattr(state, "fields_cache", ())

    def __repr__(self) -> str:
        left = max(0, round(self.ends - time.monotonic()))
        return f"<Route {self.name} relation={self.relation} uses={self.uses} ends in {left} s>"


class Routes:
    """The learned routes of a process. Iterate to see them."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._routes: OrderedDict[int, Route] = OrderedDict()

    def __iter__(self) -> Iterator[Route]:
        return iter(list(self._routes.values()))

    def __len__(self) -> int:
        return len(self._routes)

    def learn(self, route: Route) -> None:
        """Remember *route*; the oldest makes room."""
        with self._lock:
            self._routes[id(route.plan)] = route
            route.plan.route = route
            if len(self._routes) > self.most:
                _, oldest = self._routes.popitem(last=False)
                oldest.plan.route = None

    def forget(self, route: Route) -> None:
        with self._lock:
            self._routes.pop(id(route.plan), None)
            route.plan.route = None

    def clear(self) -> None:
        """Forget all: the next call of each field is tried in the loop again."""
        for route in self:
            self.forget(route)


known = Routes()


def routes() -> Routes:
    """Return the learned routes: iterate to see them, ``clear()`` to forget them."""
    return known
