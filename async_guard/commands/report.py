"""``report``: a ranked list of problems with their fixes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import suppress
from typing import TextIO

from async_guard.commands.checkout import add_root, checkout_of
from async_guard.commands.inputs import add_filters, add_paths, filters_of, read_inputs, sources_of
from async_guard.logs.baseline import load_baseline
from async_guard.logs.failures import CommandFailed, MissingExtra
from async_guard.logs.filters import Filters
from async_guard.logs.output import write_file
from async_guard.logs.progress import progress_bar
from async_guard.logs.reading import Result
from async_guard.logs.report import Report, make_report, summed_up
from async_guard.logs.sources import total_size

HELP = "Rank the problems in logs, and say how to fix them."
TERMINAL = "terminal"
FORMATS = {
    TERMINAL: "plain",
    "html": "html",
    "json": "as_json",
    "markdown": "markdown",
    "sarif": "sarif",
}
_BY_SUFFIX = {
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".md": "markdown",
    ".sarif": "sarif",
}
NEW, ANY = "new", "any"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    add_filters(parser)
    add_root(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: what -o ends in, else terminal")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE")
    parser.add_argument("--baseline", metavar="FILE", help="the problems that are known")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="tcp://HOST:PORT of a Dask scheduler: its workers read the logs",
    )
    parser.add_argument(
        "--fail-on", choices=(NEW, ANY), help="exit 1 on a problem that is new, or on any"
    )


def run(options: argparse.Namespace, out: TextIO) -> int:
    if options.fail_on == NEW and not options.baseline:
        raise CommandFailed("--fail-on new needs --baseline FILE.")
    _spare_baseline(options)
    filters = filters_of(options)
    baseline = load_baseline(options.baseline) if options.baseline is not None else None
    checkout = checkout_of(options.root)
    report = make_report(_read(options, filters), filters, baseline, propose=checkout.propose)
    report.patch_note, report.repository = checkout.note, checkout.repository
    with suppress(BrokenPipeError):  # `… | head` has seen enough, and the status says the rest
        _write(report, options, out)
    found = report.new if options.fail_on == NEW else report.problems
    return 1 if options.fail_on and found else 0


def _spare_baseline(options: argparse.Namespace) -> None:
    output, baseline = options.output, options.baseline
    if not (output and baseline and os.path.isfile(output) and os.path.exists(baseline)):
        return
    if os.path.samefile(output, baseline):
        raise CommandFailed(f"{output} is the baseline: name another file with -o.")


def _read(options: argparse.Namespace, filters: Filters) -> Result:
    if options.dask is None:
        return read_inputs(options, filters)
    if options.unique or options.processes:
        raise CommandFailed("--unique and --processes are for one machine: leave out --dask.")
    try:
        cluster = importlib.import_module("async_guard.logs.cluster")
    except ImportError:
        raise MissingExtra("--dask", "Dask", "cluster") from None
    sources = sources_of(options)
    with progress_bar(total_size(sources)) as progress:
        result: Result = cluster.read_on_cluster(options.dask, sources, filters, progress)
    return result


def _write(report: Report, options: argparse.Namespace, out: TextIO) -> None:
    name = options.format or _format_of(options.output)
    if name == TERMINAL and not options.output and _show(report, out):
        return
    render = importlib.import_module(f"async_guard.logs.render.{FORMATS[name]}").render
    if options.output:
        write_file(options.output, render(report))
    else:
        out.write(render(report))
    if name != TERMINAL and not report.accounts.is_whole:
        print("\n".join(summed_up(report.accounts)), file=sys.stderr)


def _format_of(path: str | None) -> str:
    suffix = os.path.splitext(path or "")[1].lower()
    return _BY_SUFFIX.get(suffix, TERMINAL)


def _show(report: Report, out: TextIO) -> bool:
    """Show *report* to somebody at a terminal, if ``rich`` is installed."""
    if not out.isatty():
        return False
    try:
        terminal = importlib.import_module("async_guard.logs.render.terminal")
    except ImportError:
        return False
    terminal.show(report, out)
    return True
