"""
Run the load proof: ``python -m tests.load [--requests N] [--short] [SCENARIO ...]``.

Exit status 1, and one sentence for each promise that was broken.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import demo
import psycopg

from tests.load.promises import Run
from tests.load.scenarios import PARTS, SCENARIOS
from tests.load.site import Database, Site, connect
from tests.load.traffic import MORE_USERS, OTP_USERS, World

SPARE = 15
"""Connections of our own, and those of a server that are on their way out."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--short", action="store_true", help="a minute or two, for the CI")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"there is no scenario {', '.join(unknown)}")
    return options


def check_room(concurrency: int) -> None:
    """A server that others have filled would refuse us, which is no fault of the retry."""
    with connect("postgres") as connection:
        free = connection.execute(
            "SELECT current_setting('max_connections')::int - count(*) FROM pg_stat_activity"
        ).fetchone()[0]
    if free < (needed := concurrency + SPARE):
        raise demo.DemoFailed(f"PostgreSQL has {free} free connections, {needed} are needed.")


def run_all(options: argparse.Namespace) -> list[str]:
    check_room(options.concurrency)
    broken: list[str] = []
    prefix = f"async_guard_load_{os.getpid()}"
    with TemporaryDirectory(prefix="async-guard-load-") as folder, Database(prefix).made() as base:
        site = Site(Path(folder), database_name=base.name)
        site.manage("migrate", "--verbosity", "0")
        site.manage("seed")
        base.rows(MORE_USERS + " RETURNING id", OTP_USERS)
        world = World.read(base)
        for name in options.scenarios or SCENARIOS:
            part, in_short = PARTS[name]
            requests = in_short if options.short else max(int(options.requests * part), 50)
            if not requests:
                continue
            mine = Path(folder) / name
            mine.mkdir()
            with Database(f"{prefix}_{name}").made(base.name) as database:
                site = Site(mine, database_name=database.name)
                run = Run(name, requests, options.concurrency, site, database, world)
                since = time.monotonic()
                SCENARIOS[name](run)
                report(run, time.monotonic() - since)
                broken += run.broken
    return broken


def report(run: Run, took_s: float) -> None:
    said = "kept every promise" if not run.broken else f"broke {len(run.broken)} promises"
    print(f"{run.name}: {said} in {took_s:.0f} s", flush=True)
    for name, figure in run.figures.items():
        print(f"    {name}: {figure}", flush=True)
    for sentence in run.broken:
        print(f"    broken: {sentence}", flush=True)


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(143))  # so that `finally` runs
    try:
        broken = run_all(options)
    except (demo.DemoFailed, psycopg.OperationalError) as failed:
        broken = [str(failed)]
    except KeyboardInterrupt:
        return 130
    for sentence in broken:
        print(f"load: {sentence}", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
