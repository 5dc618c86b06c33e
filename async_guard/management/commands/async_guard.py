"""``manage.py async_guard <sub>``: hands over to ``async_guard.cli``."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from async_guard import cli
from async_guard.logs.failures import CommandFailed


class Command(BaseCommand):
    help = "Reads the logs of async_guard, and says what to fix."
    requires_system_checks: list[str] = []  # noqa: RUF012  as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_commands(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        out: Any = self.stdout
        try:
            status = cli.run(Namespace(**options), out)
        except CommandFailed as failed:
            raise CommandError(str(failed), returncode=cli.FAILED) from None
        if status:
            sys.exit(status)
