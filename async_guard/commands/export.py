"""``export``: the events of all logs, in one file of one format."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

from async_guard.commands.inputs import add_filters, add_paths, filters_of, sources_of
from async_guard.logs.failures import CommandFailed
from async_guard.logs.output import replacing
from async_guard.logs.parquet import connected, write_parquet
from async_guard.logs.report import summed_up
from async_guard.logs.rows import dumped, read_rows

HELP = "Write the events as Parquet or JSON lines."
PARQUET, JSONL = "parquet", "jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    add_filters(parser)
    parser.add_argument("--to", choices=(PARQUET, JSONL), required=True)
    parser.add_argument("-o", "--output", metavar="FILE", help="default for jsonl: standard output")


def run(options: argparse.Namespace, out: TextIO) -> int:
    if options.to == PARQUET and not options.output:
        raise CommandFailed("export --to parquet needs -o FILE.")
    if options.min_count:
        raise CommandFailed("--min-count is for problems, and export writes events: ask report.")
    sources, filters = sources_of(options), filters_of(options)
    if options.to == PARQUET:
        with connected() as connection:
            accounts = write_parquet(connection, sources, filters, options.output)
    elif options.output:
        with replacing(options.output) as file:
            accounts = read_rows(sources, filters, lambda row: file.write(dumped(row)))
    else:
        accounts = read_rows(sources, filters, lambda row: out.write(dumped(row)))
    print("\n".join(summed_up(accounts)), file=sys.stderr)
    return 0
