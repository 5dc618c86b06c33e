"""``fix``: from the problems in logs to a patch of the checkout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TextIO

from async_guard.commands.inputs import add_filters, add_paths, filters_of
from async_guard.logs.accounts import Accounts
from async_guard.logs.events import Event
from async_guard.logs.failures import CommandFailed
from async_guard.logs.filters import Filters
from async_guard.logs.reading import Part, read_part
from async_guard.logs.sources import Source, find_sources

HELP = "Print a patch for what the logs found, or change the files."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    add_filters(parser)
    parser.add_argument("--root", default=".", metavar="FOLDER", help="the checkout; default: here")
    parser.add_argument("--only", metavar="FINGERPRINT", help="fix this problem and no other")
    parser.add_argument(
        "--write", action="store_true", help="change the files; the git tree must be clean"
    )


def run(options: argparse.Namespace, out: TextIO) -> int:
    try:
        from async_guard.fix import command
    except ImportError as error:
        raise CommandFailed("fix needs libcst: pip install 'async-guard[fix]'.") from error
    root = Path(options.root)
    if not root.is_dir():
        raise CommandFailed(f"{options.root} is no folder: --root names the checkout.")
    events = _hits(find_sources(options.paths), filters_of(options))
    status: int = command.run(events, root, only=options.only, write=options.write, out=out)
    return status


def _hits(sources: list[Source], filters: Filters) -> list[dict[str, Any]]:
    """Return one event in full of every problem: its code is changed once."""
    found: dict[str, dict[str, Any]] = {}

    def keep(event: Event) -> None:
        if event.is_hit and event.fingerprint is not None and filters.admit(event):
            found.setdefault(event.fingerprint, event.keys)

    for source in sources:
        read_part(Part(source), Accounts(), keep)
    return list(found.values())
