"""
``python -m benchmarks.logs``: reading logs back, beside what people would write by hand.

Makes a sparse and a dense log, reads each with every contender in turn, several times, and prints
ratios to the plain loop of the same run: CPU time, wall time and the most memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "event-1.0.json"
LOOP = """
import collections, json, sys
counts = collections.Counter()
for line in open(sys.argv[1], encoding="utf-8"):
    event = json.loads(line)
    if event.get("event") in ("async_guard.hit", "async_guard.summary"):
        counts[event["async_guard.fingerprint"]] += event["async_guard.count"]
print(counts.most_common(3))
"""
OURS = """
import sys
from async_guard.logs import decoding
from async_guard.cli import main
if sys.argv[1] == "json":
    decoding.msgspec = None
sys.exit(main(["report", *sys.argv[2:]]))
"""
JQ = """
jq -c 'select(.event == "async_guard.hit") | ."async_guard.fingerprint"' "$1" | sort | uniq -c
"""
BASE = "json.loads loop"
SPARSE, DENSE = 0.018, 0.6


class Cost(NamedTuple):
    cpu_s: float
    wall_s: float
    megabytes: float


def contenders(path: str) -> dict[str, list[str]]:
    """Return the commands that read the log at *path*."""
    python = [sys.executable, "-c"]
    found = {
        BASE: [*python, LOOP, path],
        "async-guard, json, 1 process": [*python, OURS, "json", path, "--processes", "1"],
        "async-guard, msgspec, 1 process": [*python, OURS, "msgspec", path, "--processes", "1"],
        "async-guard, msgspec": [*python, OURS, "msgspec", path],
    }
    if shutil.which("jq"):
        found["jq | sort | uniq -c"] = ["sh", "-c", JQ, "sh", path]
    return found


def measure(command: Sequence[str]) -> Cost:
    """Run *command*, and return what it and its children took."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiled, as when installed
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),  # a report made in a checkout reads its code, too
        env=environment,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[:3]} ended with {process.returncode}")
    wall = time.perf_counter() - begin
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def write_log(path: Path, lines: int, share: float) -> None:
    """Write a log of so many lines, of which a *share* is hits of 40 problems."""
    dice = random.Random(20)
    golden = json.loads(GOLDEN.read_text("utf-8"))
    golden["async_guard.frames"] *= 4
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            is_hit = dice.random() < share
            file.write(json.dumps(hit(golden, dice) if is_hit else request(number, dice)) + "\n")


def hit(golden: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    return {
        **golden,
        "async_guard.hit_id": f"{dice.getrandbits(128):032x}",
        "async_guard.fingerprint": f"{dice.randrange(40):016x}",
        "request_id": f"{dice.getrandbits(128):032x}",
    }


def request(number: int, dice: random.Random) -> dict[str, Any]:
    return {
        "timestamp": f"2026-01-31T12:{number // 60 % 60:02}:{number % 60:02}.000000Z",
        "level": "info",
        "event": "request_finished",
        "logger": "django_structlog.middlewares.request",
        "request": f"GET /orders/{dice.randrange(100_000)}/",
        "code": 200,
        "request_id": f"{dice.getrandbits(128):032x}",
    }


def rows(path: Path, rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield a row per contender: medians, and ratios to the loop."""
    commands = contenders(str(path))
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            print(f"{path.name}: round {number + 1} of {rounds}, {name}", file=sys.stderr)
            costs[name].append(measure(command))
    base = median(costs[BASE])
    for name, found in costs.items():
        cost = median(found)
        yield (
            name,
            f"{cost.cpu_s:.2f}",
            f"{base.cpu_s / cost.cpu_s:.1f}",
            f"{cost.wall_s:.2f}",
            f"{base.wall_s / cost.wall_s:.1f}",
            f"{cost.megabytes:.0f}",
        )


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=2_000_000, help="of the sparse log")
    options = parser.parse_args()
    logs = {
        "sparse": (options.lines, SPARSE),
        "sparse, twice as long": (2 * options.lines, SPARSE),
        "dense": (options.lines // 4, DENSE),
    }
    head = ("", "CPU s", "× faster", "wall s", "× faster", "MB")
    with tempfile.TemporaryDirectory() as folder:
        for name, (lines, share) in logs.items():
            path = Path(folder) / f"{name.replace(', ', '-').replace(' ', '-')}.log"
            write_log(path, lines, share)
            size = path.stat().st_size / 1e9
            print(f"\n{name}: {lines:,} lines, {share:.1%} hits, {size:.2f} GB")
            table = [head, *rows(path, options.rounds)]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            for first, *rest in table:
                cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
                print(first.ljust(widths[0]), *cells, sep="  ", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
