"""The arguments that every command shares which reads logs, and what they stand for."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence

from async_guard.hit import LEVELS
from async_guard.logs.failures import CommandFailed
from async_guard.logs.filters import Filters, point_in_time
from async_guard.logs.progress import progress_bar
from async_guard.logs.reading import Result, read
from async_guard.logs.sources import STDIN, Source, find_sources, total_size
from async_guard.logs.traits import UNKNOWN

PATTERNS = {
    "kind": ("KIND", "sync_orm, n_plus_one, …"),
    "outcome": ("OUTCOME", "raised, swallowed, allowed, …"),
    "relation": ("RELATION", "app.Model.field"),
    "field": ("FIELD", "GraphQL field, as Type.field"),
    "owner": ("OWNER", "app, dependency or framework"),
    "service": ("NAME", "service.name"),
    "version": ("VERSION", "service.version"),
}
KNOWN = {
    "kind": (
        *("sync_orm", "blocking_orm", "async_to_sync_in_loop", "n_plus_one"),
        *("unawaited_coroutine", "async_protocol", "blocking_call", "stray_connection"),
        "transaction_across_await",
    ),
    "outcome": (*LEVELS, UNKNOWN),
    "owner": ("app", "dependency", "framework"),
}
"""The closed lists of the schema: a pattern that fits none is misspelt."""


def add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="log file, directory or glob, compressed or not; - is standard input",
    )
    parser.add_argument(
        "--processes",
        type=_natural,
        default=0,
        metavar="N",
        help="read with N processes at most; default: as many as it pays",
    )
    parser.add_argument(
        "--unique", action="store_true", help="count a hit that was shipped twice only once"
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "Patterns as in a shell; each may be repeated.")
    group.add_argument("--since", metavar="WHEN", help="duration (90m, 7d) or date")
    group.add_argument("--until", metavar="WHEN", help="duration or date")
    for name, (metavar, text) in PATTERNS.items():
        group.add_argument(
            f"--{name}",
            dest=f"only_{name}",
            action="append",
            default=[],
            metavar=metavar,
            help=text,
        )
    group.add_argument(
        "--min-count", type=_natural, default=0, metavar="N", help="problems of N hits at least"
    )


def is_natural(text: str) -> bool:
    """Tell whether a text is a whole number that fits into 64 bits."""
    return text.isascii() and text.isdigit() and len(text) < 19


def _natural(text: str) -> int:
    if not is_natural(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def filters_of(options: argparse.Namespace) -> Filters:
    """
    Return what the command line asks for.

    Raises:
        CommandFailed: it is no time, or nothing can fit.
    """
    since = point_in_time(options.since) if options.since is not None else None
    until = point_in_time(options.until) if options.until is not None else None
    if since is not None and until is not None and since >= until:
        raise CommandFailed(f"--since {options.since} is not before --until {options.until}.")
    for name, known in KNOWN.items():
        for pattern in getattr(options, f"only_{name}"):
            if not fnmatch.filter(known, pattern):
                raise CommandFailed(f"--{name} {pattern} fits none of {', '.join(known)}.")
    return Filters(
        since=since,
        until=until,
        min_count=options.min_count,
        **{name: tuple(getattr(options, f"only_{name}")) for name in PATTERNS},
    )


def sources_of(options: argparse.Namespace) -> list[Source]:
    """
    Return the logs that the command line names.

    Raises:
        CommandFailed: a path is not there, or the result would be written over a log.
    """
    sources = find_sources(options.paths)
    if output := getattr(options, "output", None):
        _spare(output, sources)
    return sources


_RESULTS = (b"<!doctype html", b"# async_guard report", b'{\n  "$schema": ')
"""How HTML, Markdown and SARIF begin: a report that lies among the logs may be made anew."""


def _spare(output: str, sources: Sequence[Source]) -> None:
    """
    Write over no log.

    Raises:
        CommandFailed: *output* is one of the *sources*.
    """
    if not os.path.isfile(output):
        return
    if any(_is_same(source, output) for source in sources) and not _is_result(output):
        raise CommandFailed(
            f"{output} is one of the logs that are read: name another file with -o."
        )


def _is_same(source: Source, path: str) -> bool:
    try:
        there = os.fstat(sys.stdin.fileno()) if source.path == STDIN else os.stat(source.path)
    except (OSError, ValueError):  # standard input may be no file, but an object
        return False
    return os.path.samestat(there, os.stat(path))


def _is_result(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(max(_RESULTS, key=len))).startswith(_RESULTS)
    except OSError:
        return False


def read_inputs(options: argparse.Namespace, filters: Filters) -> Result:
    """
    Read what the command line names.

    Raises:
        CommandFailed: a path is not there, or cannot be read.
    """
    sources = sources_of(options)
    with progress_bar(total_size(sources)) as progress:
        return read(
            sources,
            filters,
            processes=options.processes,
            unique=options.unique,
            progress=progress,
        )
