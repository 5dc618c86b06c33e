"""``manage.py async_guard <sub>``: hands over to ``async_guard.cli``."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from async_guard import cli
from async_guard.logs.failures import CommandFailed, printable


class _Parser(CommandParser):
    """At the command line as brief as the console script."""

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            raise CommandError(f"Error: {message}")
        self.exit(cli.FAILED, f"{self.prog}: {message}\n")


class Command(BaseCommand):
    help = "Reads the logs of async_guard, and says what to fix."
    requires_system_checks: list[str] = []  # noqa: RUF012  as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.__class__ = _Parser  # create_parser() asks nobody which to take
        cli.add_commands(parser)

    def run_from_argv(self, argv: list[str]) -> None:
        cli.show_anything()
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        out: Any = self.stdout
        try:
            status = cli.run(Namespace(**options), out)
        except CommandFailed as failed:
            raise CommandError(printable(str(failed)), returncode=cli.FAILED) from None
        if status:
            sys.exit(status)
