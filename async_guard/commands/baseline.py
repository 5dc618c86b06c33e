"""``baseline write``: keep the problems that are known, so that only new ones fail."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TextIO

from async_guard.commands.inputs import add_filters, add_paths, filters_of, read_inputs
from async_guard.logs.baseline import (
    DEFAULT_PATH,
    Baseline,
    dumped,
    load_baseline,
    save_baseline,
)
from async_guard.logs.failures import CommandFailed
from async_guard.logs.report import make_report, numbered, summed_up

HELP = "Keep the fingerprints of the problems that are known."
STANDARD_OUTPUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="baseline_command", required=True, metavar="COMMAND")
    write = commands.add_parser("write", help="write those of the logs", description=HELP)
    add_paths(write)
    add_filters(write)
    write.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=DEFAULT_PATH,
        help=f"default: {DEFAULT_PATH}; - is standard output",
    )


def run(options: argparse.Namespace, out: TextIO) -> int:
    filters = filters_of(options)
    _spare(options.output)
    report = make_report(read_inputs(options, filters), filters)
    known = {
        problem.fingerprint: f"{problem.subject} in {problem.hit.function}"
        for problem in report.problems
    }
    if options.output == STANDARD_OUTPUT:
        out.write(dumped(Baseline(known)))
    else:
        save_baseline(options.output, Baseline(known))
        out.write(f"{options.output}: {numbered(len(known), 'problem')}.\n")
    if not report.accounts.is_whole:
        print("\n".join(summed_up(report.accounts)), file=sys.stderr)
    return 0


def _spare(path: str) -> None:
    """
    Replace baselines and nothing else.

    Raises:
        CommandFailed: something else is at *path*.
    """
    if path != STANDARD_OUTPUT and os.path.isfile(path) and os.path.getsize(path):
        try:
            load_baseline(path)
        except CommandFailed as failed:
            raise CommandFailed(f"{failed} Remove it, or name another file with -o.") from None
