"""What is promised of a server under load, and whether it was kept."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import demo

from tests.load.site import WORKERS, Database, Gauges, Sample, Server, Site
from tests.load.traffic import Traffic, World

QUIET_S = 10.0
"""So soon after the last answer the connections must be back."""
HELD_S = 5.0
"""No transaction waits so long for its next statement."""
GROWTH = 0.02, 1024
"""The memory of a worker may grow by this part, and so many kilobytes, after the warm-up."""
WARM_AFTER = 500
"""So many requests warm the workers up: a run with less than four times that tells nothing."""
TOKENS = "SELECT jti FROM token_blacklist_outstandingtoken"
SPENT = f"{TOKENS} o JOIN token_blacklist_blacklistedtoken b ON o.id = b.token_id"
DEVICES = "SELECT device_id FROM otps_trusteddevice WHERE device_id LIKE 'device %'"
LEFT = "SELECT name FROM otps_trusteddevice WHERE device_id LIKE 'left %'"
RIGHT = "SELECT name FROM otps_trusteddevice WHERE device_id LIKE 'right %'"


@dataclass
class Run:
    """One scenario: a server, a database, and what was promised of them."""

    name: str
    requests: int
    concurrency: int
    site: Site
    database: Database
    world: World
    pool_size: int = 0
    """So many connections each worker keeps."""
    broken: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def promise(self, kept: object, sentence: str) -> None:
        if not kept:
            self.broken.append(f"{self.name}: {sentence}")

    def traffic(self, server: Server, **options: Any) -> Traffic:
        return Traffic(server.port, self.database, self.world, **options)

    @contextmanager
    def served(self) -> Iterator[tuple[Server, Gauges]]:
        """Run the server, and watch it; what is left afterwards is checked."""
        with self.site.running() as server, Gauges(server, self.database) as gauges:
            self.promise(len(server.workers) == WORKERS, f"{len(server.workers)} workers run.")
            yield server, gauges
            self.check_quiet(server, gauges)
            self.check_samples(gauges)
            alive = self.site.workers_of(os.getpid())
            self.promise(alive == server.workers, "A worker died, and was started again.")

    # --- promises --------------------------------------------------------------------------------

    def check_quiet(self, server: Server, gauges: Gauges) -> None:
        """No connection is left but those of the pools, and no transaction."""
        deadline = time.monotonic() + QUIET_S
        last = gauges.samples[-1]
        while time.monotonic() < deadline:
            time.sleep(0.1)
            last = gauges.samples[-1]
            kept = last.states["idle"] if self.pool_size else 0
            if last.connections == kept <= WORKERS * self.pool_size:
                return
        left = ", ".join(f"{count} {state}" for state, count in last.states.items())
        self.promise(False, f"{QUIET_S:g} s after the last request, connections are left: {left}.")

    def check_samples(self, gauges: Gauges) -> None:
        most = max(each.connections for each in gauges.samples)
        self.figures |= {
            "connections, at most": most,
            "threads of the workers, at most": max(each.threads for each in gauges.samples),
        }
        for each in gauges.samples:
            if each.connections > WORKERS + each.threads:
                self.promise(False, f"{each.connections} connections for {each.threads} threads.")
                break
        if self.pool_size:
            kept = WORKERS * self.pool_size
            self.promise(most <= kept, f"{most} connections, though the pools have {kept}.")
        held = max(each.held_s for each in gauges.samples)
        self.promise(held < HELD_S, f"A transaction was left open for {held:.1f} s.")

    def check_memory(self, samples: list[Sample]) -> None:
        """Compare the second quarter of the run with the last one; the first warms up."""
        quarter = len(samples) // 4
        for number in range(WORKERS):
            sizes = [each.rss_kb[number] for each in samples]
            warm, late = median(sizes[quarter : 2 * quarter]), median(sizes[-quarter:])
            self.figures[f"memory of worker {number + 1}"] = (
                f"{sizes[0] / 1024:.1f} MB at first, {warm / 1024:.1f} MB warm, "
                f"{late / 1024:.1f} MB at last"
            )
            part, fixed = GROWTH
            self.promise(
                self.requests < 4 * WARM_AFTER or late <= warm * (1 + part) + fixed,
                f"The memory of worker {number + 1} grew from {warm / 1024:.1f} to "
                f"{late / 1024:.1f} MB after the warm-up.",
            )

    def check_answers(self, traffic: Traffic) -> None:
        ledger = traffic.ledger
        self.figures["requests"] = dict(ledger.sent)
        for kind, count in ledger.wrongs.items():
            self.promise(False, f"{count} × {kind}, such as {ledger.wrong[kind][0]}")

    def check_rows(self, traffic: Traffic) -> None:
        """What was answered is in the database, once, and nothing else."""
        ledger = traffic.ledger
        for name, found, answered, _ in self.compared(traffic):
            self.promise(
                sorted(found) == sorted(answered),
                f"{len(found)} {name} are in the database, {len(answered)} were answered.",
            )
        used, unused = self.codes()
        asked, verified = ledger.sent["code"], len(ledger.devices)
        self.promise(
            (used, used + unused) == (verified, asked),
            f"Of {used + unused} codes {used} are used: {asked} were sent, {verified} verified.",
        )

    def check_rows_after_failures(self, traffic: Traffic) -> None:
        """What was answered is there; beyond it, one row at most for each request that failed."""
        for name, found, answered, asked in self.compared(traffic):
            lost = set(answered) - set(found)
            self.promise(not lost, f"{len(lost)} {name} were answered, and are not there.")
            self.promise(
                len(found) == len(set(found)) and len(found) <= asked,
                f"{len(found)} {name} are there, after {asked} requests.",
            )

    def compared(self, traffic: Traffic) -> Iterator[tuple[str, list[str], list[str], int]]:
        """Yield kinds of rows: what is there, what was answered, and how many were asked for."""
        ledger, sent = traffic.ledger, traffic.ledger.sent
        kinds = {
            "tokens": (TOKENS, ledger.tokens, sent["login"] + sent["refresh"] + sent["verify"]),
            "spent tokens": (SPENT, ledger.spent, sent["refresh"]),
            "trusted devices": (DEVICES, ledger.devices, sent["verify"]),
            "pairs": (LEFT, ledger.pairs, sent["pair"]),
        }
        for name, (statement, answered, asked) in kinds.items():
            found = self.database.column(statement)
            self.figures[name] = f"{len(found)} there, {len(answered)} answered, {asked} asked for"
            yield name, found, answered, asked
        halves = set(self.database.column(LEFT)) ^ set(self.database.column(RIGHT))
        self.promise(not halves, f"{len(halves)} pairs are half-written.")

    def codes(self) -> tuple[int, int]:
        rows = dict(self.database.rows("SELECT used, count(*) FROM otps_onetimecode GROUP BY 1"))
        return rows.get(True, 0), rows.get(False, 0)

    def check_outcomes(self, expected: set[str]) -> int:
        """The log of async_guard says how the hits ended. Return how many there were."""
        counts: Counter[str] = Counter()
        for event in self.events():
            if event["event"] in demo.COUNTED and event.get("async_guard.kind") == "sync_orm":
                counts[event["async_guard.outcome"]] += event["async_guard.count"]
        self.figures["hits"] = dict(counts)
        self.promise(set(counts) == expected, f"The hits ended as {dict(counts)}.")
        return counts.total()

    def events(self) -> list[demo.Event]:
        return demo.Follower(self.site.hits).new()

    def check_server_log(self, faults: str) -> None:
        log = self.site.server_log.read_text(errors="replace")
        found = [line for line in log.splitlines() if re.search(faults, line)]
        for first in found[:1]:
            self.promise(False, f"The server complained {len(found)} times, first: {first[:400]}")
