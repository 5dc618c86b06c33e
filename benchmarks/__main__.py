"""``python -m benchmarks``: measure, and print the tables."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import contenders, hits, instructions, latency, memory, retries, tables, workloads
from benchmarks.contenders import CONTENDERS
from benchmarks.race import Race
from benchmarks.workloads import WORKLOADS, Workload

HITS, MEMORY, RETRIES, LATENCY = "hits", "memory", "retries", "latency"
PACKAGES = (
    "django",
    "strawberry-graphql",
    "strawberry-graphql-django",
    "graphql-core",
    "opentelemetry-sdk",
    "blockbuster",
    "aiocop",
    "django-zeal",
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*workloads.BY_NAME, HITS, MEMORY, RETRIES, LATENCY],
        metavar="TABLE",
        help=f"these workloads, or {HITS}, {MEMORY}, {RETRIES} or {LATENCY}, and nothing else",
    )
    parser.add_argument("--quick", action="store_true", help="a few minutes, and coarse")
    parser.add_argument("--rounds", type=int, help="of the ratios (default 30, quick 6)")
    parser.add_argument("--processes", type=int, help="for the hits (default 15, quick 3)")
    parser.add_argument("--operations", type=int, help="for the memory (default 1,000,000)")
    parser.add_argument("--apart", action="store_true", help="each contender in its own process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument(
        "--one",
        nargs=2,
        metavar=("WORKLOAD", "CONTENDER"),
        help="only run it --rounds times, for a profiler",
    )
    parser.add_argument(
        "--callgrind", action="store_true", help="print the commands that count instructions"
    )
    options = parser.parse_args(arguments)
    _check_one(parser, options)
    _fill_defaults(options)
    return options


def _check_one(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.one is not None:
        workload, contender = options.one
        if workload not in workloads.BY_NAME:
            parser.error(f"--one: no workload {workload!r}, but {', '.join(workloads.BY_NAME)}")
        if contender not in contenders.BY_NAME:
            parser.error(f"--one: no contender {contender!r}, but {', '.join(contenders.BY_NAME)}")


def _fill_defaults(options: argparse.Namespace) -> None:
    if options.rounds is None:
        options.rounds = 6 if options.quick else 30
    if options.processes is None:
        options.processes = 3 if options.quick else 15
    if options.operations is None:
        options.operations = 100_000 if options.quick else 1_000_000


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    if options.one is not None:
        workload, contender = options.one
        instructions.run_one(
            workloads.BY_NAME[workload], contenders.BY_NAME[contender], options.rounds
        )
    elif options.callgrind:
        print(instructions.EXPLANATION, *instructions.commands(_chosen(options)), sep="\n")
    else:
        _measure(options)


def _chosen(options: argparse.Namespace) -> list[Workload]:
    return [each for each in WORKLOADS if options.only is None or each.name in options.only]


def _measure(options: argparse.Namespace) -> None:
    results: dict[str, Any] = {"environment": _environment()}
    print(", ".join(f"{name} {value}" for name, value in results["environment"].items()), "\n")
    for name, table in _tables(options):
        results[name] = table()
        if options.json is not None:  # now, lest a later table takes it with it
            options.json.write_text(json.dumps(results, indent=2) + "\n")


def _tables(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the tables that were asked for, and how to measure and print each."""
    if chosen := _chosen(options):
        yield "ratios", partial(_ratios, options, chosen)
    if options.only is None or HITS in options.only:
        yield HITS, partial(_hits, options)
    if options.only is None or MEMORY in options.only:
        yield MEMORY, partial(_memory, options)
    if options.only is None or RETRIES in options.only:
        yield RETRIES, partial(_retries, options)
    if options.only is None or LATENCY in options.only:
        yield LATENCY, partial(_latency, options)


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _ratios(options: argparse.Namespace, chosen: Sequence[Workload]) -> list[dict[str, Any]]:
    present = [contender for contender in CONTENDERS if contender.is_installed]
    race = Race(present, chosen, all_apart=options.apart)
    ratios = race.run(
        options.rounds,
        lambda number: _progress(f"ratios: round {number + 1} of {options.rounds}"),
    )
    _print(
        tables.ratio_rows(ratios),
        tables.ratio_legend(ratios),
        tables.missed_ratios(ratios),
        options,
    )
    return [asdict(ratio) for ratio in ratios]


def _hits(options: argparse.Namespace) -> list[dict[str, Any]]:
    costs = list(hits.measure(options.processes, _progress))
    _print(tables.hit_rows(costs), tables.HIT_LEGEND, tables.missed_hits(costs), options)
    return [asdict(cost) for cost in costs]


def _memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    growths = list(memory.measure(options.operations, _progress))
    _print(
        tables.memory_rows(growths), tables.MEMORY_LEGEND, tables.missed_memory(growths), options
    )
    return [asdict(growth) for growth in growths]


def _retries(options: argparse.Namespace) -> list[dict[str, Any]]:
    costs = list(retries.measure(options.rounds, _progress))
    _print(
        tables.retry_rows(costs),
        tables.retry_legend(costs),
        tables.missed_retries(costs),
        options,
    )
    return [asdict(cost) for cost in costs]


def _latency(options: argparse.Namespace) -> dict[str, Any]:
    found = latency.measure(options.rounds, _progress)
    if isinstance(found, str):
        print(f"latency: not measured, {found}", flush=True)
        return {"not_measured": found}
    _print(tables.latency_rows(found), tables.LATENCY_LEGEND, tables.missed_latency(found), options)
    return asdict(found)


def _print(
    rows: Sequence[tables.Row],
    legend: Sequence[str],
    missed: Sequence[str],
    options: argparse.Namespace,
) -> None:
    print(tables.section(rows, legend, missed, markdown=options.markdown), flush=True)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
