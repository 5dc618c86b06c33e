"""What happens to the server: a retry that is on, off, or in trouble."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable

import demo

from tests.load.promises import Run
from tests.load.traffic import ADA, MIXED, READING, WRITING, Errand, Traffic

REFUSED = "You cannot call this from an async context - use a thread or sync_to_async."
DOWN_S = 2.0
RECOVERY_S = 10.0
LEAKS = r"Task was destroyed|never retrieved|rolling back returned connection"
ERRORS = rf'{LEAKS}|"level": "(?:error|critical)"'
"""
Faults even where requests are cancelled: a list that is cancelled leaves coroutines that were never
awaited, with or without a retry.
"""
FAULTS = rf"{ERRORS}|Traceback|was never awaited"


def healed(run: Run, errands: dict[Errand, int]) -> None:
    """Unmended code, right answers, exactly once."""
    with run.served() as (server, gauges):
        traffic = run.traffic(server)
        since = time.monotonic()
        asyncio.run(traffic.send(run.requests, run.concurrency, errands))
        took = time.monotonic() - since
        run.figures["rate"] = f"{traffic.ledger.sent.total() / took:.0f} requests/s in {took:.1f} s"
        run.check_memory(gauges.since(since))
        run.check_answers(traffic)
        run.check_rows(traffic)
    told, made = run.check_outcomes({"retried"}), traffic.ledger.hits(len(run.world.ids))
    run.promise(told == made, f"{told} retries were told of, {made} were made.")
    run.check_server_log(FAULTS)


def resume(run: Run) -> None:
    run.site.options["LOAD_AUTO_RETRY"] = "resume"
    healed(run, MIXED)


def rerun(run: Run) -> None:
    run.site.options["LOAD_AUTO_RETRY"] = "rerun"
    healed(run, READING)


def refused(run: Run) -> None:
    """The breakers are forced open: Django's errors, and not a row."""
    run.site.options |= {"LOAD_AUTO_RETRY": "resume", "LOAD_BREAKERS": "open"}
    unretried(run, {"retry_refused"})


def denied(run: Run) -> None:
    """The project denies every retry: the same."""
    run.site.options |= {"LOAD_AUTO_RETRY": "resume", "LOAD_RETRY_DENY": "*"}
    unretried(run, {"raised", "swallowed"})


def off(run: Run) -> None:
    """What the two above are to look like."""
    unretried(run, {"raised", "swallowed"})


def unretried(run: Run, outcomes: set[str]) -> None:
    with run.served() as (server, _):
        mended = run.traffic(server, path=demo.FIXED)
        asyncio.run(log_in_often(mended, run.requests // 10))
        run.check_answers(mended)
        traffic = run.traffic(server)
        traffic.take_tokens(mended)
        asyncio.run(traffic.send(run.requests, run.concurrency, MIXED))
        ledger = traffic.ledger
        others = set(ledger.messages) - {REFUSED}
        run.promise(not others, f"An error is not the original one: {others}.")
        for kind in ("login", "verify", "refresh", "profile", "profiles", "pair"):
            run.promise(
                ledger.wrongs[f"{kind} answered errors"] == ledger.sent[kind],
                f"{ledger.wrongs[f'{kind} answered errors']} of {ledger.sent[kind]} {kind}"
                " failed, and all should.",
            )
        hidden = ledger.wrongs["hidden hit answered wrong data"]
        run.promise(hidden == ledger.sent["hidden hit"], "A hidden hit was healed.")
        for kind in ("code", "teams", "onboarding"):
            run.promise(
                not any(count for what, count in ledger.wrongs.items() if what.startswith(kind)),
                f"{kind} is wrong, though it needs no retry.",
            )
        run.figures["requests"] = dict(ledger.sent)
        run.figures["errors"] = dict(ledger.messages)
        ledger.tokens += mended.ledger.tokens
        # by the code's own fault an old token is spent before the new one is refused
        expected = {"spent tokens": ledger.sent["refresh"], "tokens": len(ledger.tokens)}
        for name, found, _, _ in run.compared(traffic):
            wanted = expected.get(name, 0)
            run.promise(len(found) == wanted, f"{len(found)} {name} are there, not {wanted}.")
    run.check_outcomes(outcomes)


async def log_in_often(traffic: Traffic, times: int) -> None:
    for _ in range(times):
        await traffic.log_in(ADA)


def outage(run: Run) -> None:
    """The database goes away, and comes back."""
    run.site.options["LOAD_AUTO_RETRY"] = "resume"
    with run.served() as (server, _):
        traffic = run.traffic(server)
        asyncio.run(through_outage(run, traffic))
        run.check_rows_after_failures(traffic)
    events = Counter(event["event"] for event in run.events())
    run.figures["breakers"] = {name: n for name, n in events.items() if "breaker" in name}
    run.check_server_log(LEAKS)


async def through_outage(run: Run, traffic: Traffic) -> None:
    third = run.requests // 3
    await traffic.send(third, run.concurrency, MIXED)
    run.check_answers(traffic)
    traffic.ledger.wrongs.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.send(sys.maxsize, run.concurrency, WRITING))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(run.database.stop)
        await asyncio.sleep(DOWN_S)
        failed = traffic.ledger.wrongs.total()
        await asyncio.to_thread(run.database.start)
        traffic.stop()
    run.figures["failed while it was down"] = failed
    run.figures["errors"] = dict(traffic.ledger.messages)
    run.promise(failed, "Nothing failed while the database was down.")
    silent = {kind for kind in traffic.ledger.wrongs if "got no answer" in kind}
    run.promise(not silent, f"While the database was down: {silent}.")
    await recover(run, traffic)


async def recover(run: Run, traffic: Traffic) -> None:
    """
    Wait until nothing is wrong any more.

    Each worker finds out with one request of a kind that its retry works again; what is asked
    meanwhile is refused.
    """
    ledger, back_at = traffic.ledger, time.monotonic()
    while True:
        since = time.monotonic() - back_at
        ledger.wrongs.clear()
        ledger.wrong.clear()
        await traffic.send(run.requests // 3, run.concurrency, MIXED)
        if not ledger.wrongs or since > RECOVERY_S:
            break
    run.figures["recovered after"] = f"{since:.1f} s"
    run.promise(
        not ledger.wrongs,
        f"{since:.0f} s after the database came back, {dict(ledger.wrongs)}: {ledger.wrong}.",
    )


def leavers(run: Run) -> None:
    """Clients cut their connection at any moment."""
    run.site.options["LOAD_AUTO_RETRY"] = "resume"
    with run.served() as (server, gauges):
        traffic = run.traffic(server)
        asyncio.run(traffic.send(run.requests // 4, run.concurrency, MIXED))
        traffic.leave_within_s = 2.0
        asyncio.run(traffic.send(run.requests // 2, run.concurrency, WRITING))
        run.check_quiet(server, gauges)
        traffic.leave_within_s = None
        asyncio.run(traffic.send(run.requests // 4, run.concurrency, MIXED))
        run.check_answers(traffic)
        run.check_rows_after_failures(traffic)
    run.check_server_log(ERRORS)


def pooled(run: Run) -> None:
    """The same with a pool: a connection that comes back must be in no transaction."""
    run.pool_size = 8
    run.site.options["LOAD_POOL"] = str(run.pool_size)
    leavers(run)


SCENARIOS: dict[str, Callable[[Run], None]] = {
    each.__name__: each for each in (resume, rerun, off, refused, denied, outage, leavers, pooled)
}
PARTS = {
    "resume": (1.0, 300),
    "rerun": (0.4, 200),
    "off": (0.06, 0),
    "refused": (0.06, 100),
    "denied": (0.06, 100),
    "outage": (0.3, 150),
    "leavers": (0.4, 0),
    "pooled": (0.2, 200),
}
"""The part of ``--requests`` that each gets, and how many with ``--short``; 0: left out."""
