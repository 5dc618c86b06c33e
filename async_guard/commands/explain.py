"""``explain``: one problem in full."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TextIO

from async_guard.commands.checkout import add_root, checkout_of
from async_guard.commands.inputs import add_filters, add_paths, filters_of, read_inputs
from async_guard.logs.failures import CommandFailed
from async_guard.logs.render.explanation import explanation
from async_guard.logs.report import Problem, make_report, matching, summed_up

HELP = "Tell everything that the logs say about one problem."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fingerprint", help="or its first characters")
    add_paths(parser)
    add_filters(parser)
    add_root(parser)


def run(options: argparse.Namespace, out: TextIO) -> int:
    filters = filters_of(options)
    checkout = checkout_of(options.root)
    report = make_report(read_inputs(options, filters), filters, propose=checkout.propose)
    problem = _only(matching(report.problems, options.fingerprint), options.fingerprint)
    out.write(explanation(problem, checkout.note) + "\n")
    if not report.accounts.is_whole:
        out.write("\n" + "\n".join(summed_up(report.accounts)) + "\n")
    return 0


def _only(found: Sequence[Problem], fingerprint: str) -> Problem:
    if not found:
        raise CommandFailed(
            f"No problem in these logs has a fingerprint that begins {fingerprint!r}: "
            "async-guard report lists them."
        )
    if len(found) > 1:
        names = ", ".join(problem.fingerprint for problem in found[:5])
        raise CommandFailed(f"{len(found)} problems begin {fingerprint!r}, as {names}.")
    return found[0]
