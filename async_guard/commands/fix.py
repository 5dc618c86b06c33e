"""``fix``: from the problems in logs to a patch of the checkout."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

from async_guard.commands.checkout import add_root, needed_root
from async_guard.commands.inputs import add_filters, add_paths, filters_of, read_inputs
from async_guard.logs.failures import CommandFailed
from async_guard.logs.report import summed_up

HELP = "Print a patch for what the logs found, or change the files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    add_filters(parser)
    add_root(parser)
    parser.add_argument(
        "--only",
        metavar="FINGERPRINT",
        help="fix this problem and no other; the first characters are enough",
    )
    parser.add_argument(
        "--write", action="store_true", help="change the files; the git tree must be clean"
    )


def run(options: argparse.Namespace, out: TextIO) -> int:
    try:
        from async_guard.fix import command
    except ImportError as error:
        raise CommandFailed("fix needs libcst: pip install 'async-guard[fix]'.") from error
    root, filters = needed_root(options.root), filters_of(options)
    result = read_inputs(options, filters)
    tallies = [each for each in result.tallies.ranked() if filters.admit_problem(each)]
    events = [keys for tally in tallies for keys in tally.ways]
    status: int = command.run(events, root, only=options.only, write=options.write, out=out)
    if not result.accounts.is_whole:
        print("\n".join(summed_up(result.accounts)), file=sys.stderr)
    return status
