"""
The command line: ``async-guard <sub>`` and ``manage.py async_guard <sub>``.

The console script needs neither Django's settings nor the project. Exit status 0: fine; 1: found
what ``--fail-on`` names; 2: wrong use, or input that cannot be read, in one sentence on stderr.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from async_guard.hit import package_version
from async_guard.logs.failures import CommandFailed, printable

COMMANDS = ("report", "explain", "follow", "baseline", "fix", "export", "sql", "doctor")
ESCAPE = "async_guard.escape"
FINE, FOUND, FAILED = 0, 1, 2
INTERRUPTED = 128 + signal.SIGINT


def add_commands(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Add every subcommand to *parser*."""
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", **options
    )
    for name in COMMANDS:
        module = importlib.import_module(f"async_guard.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)


class _Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong; how a command is used, ``--help`` says."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"{self.prog}: {message}\n")


class _ShowVersion(argparse.Action):
    """As ``action="version"``, but the version is looked up only for those who ask."""

    def __call__(self, parser: argparse.ArgumentParser, *found: object) -> None:
        print(package_version())
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="async-guard", description="Reads the logs of async_guard, and says what to fix."
    )
    parser.add_argument(
        "-V", "--version", action=_ShowVersion, nargs=0, help="show program's version and exit"
    )
    add_commands(parser)
    return parser


def run(options: argparse.Namespace, out: TextIO | None) -> int:
    """
    Do what *options* say, and write to *out*.

    Raises:
        CommandFailed: wrong use, input that cannot be read, or output that is full.
    """
    if out is None:
        raise CommandFailed("Standard output is closed.")
    status = FINE
    try:
        status = options.run(options, out)
        out.flush()
    except BrokenPipeError:  # `async-guard report … | head` has seen enough
        _forget_output()
    except OSError as error:  # the disk is full
        _forget_output()
        where = error.filename or "standard output"
        raise CommandFailed(f"{where} failed: {error.strerror}.") from error
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script."""
    options = make_parser().parse_args(arguments)
    show_anything()
    try:
        return run(options, sys.stdout)
    except CommandFailed as failed:
        print(f"async-guard: {printable(str(failed))}", file=sys.stderr)
        return FAILED


def show_anything() -> None:
    """Have standard output escape what it cannot encode: that is no failure."""
    out: Any = sys.stdout
    with suppress(AttributeError):  # somebody put another object in its place
        codecs.register_error(ESCAPE, _escaped)
        out.reconfigure(errors=ESCAPE)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Write what has no place in an encoding as JSON does, so that JSON stays JSON."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    units = text.encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


def _forget_output() -> None:
    """Have the interpreter write nothing more to standard output when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
