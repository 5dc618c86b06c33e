"""A table in colour that fits 80 columns, by ``rich``."""

from __future__ import annotations

from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from async_guard.logs.render.plain import about
from async_guard.logs.report import Problem, Report, compared, nothing, summed_up

WIDEST = 120
COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def show(report: Report, out: TextIO) -> None:
    """Print *report*."""
    console = Console(file=out, highlight=False, emoji=False, markup=False)
    console.width = min(console.width, WIDEST)
    if report.problems:
        console.print(_table(report))
    else:
        console.print(
            Text(nothing(report), style="bold green" if report.accounts.is_whole else "bold yellow")
        )
    for sentence in (*compared(report), *summed_up(report.accounts)):
        console.print(Text(sentence, style="red" if sentence.startswith("lost:") else "dim"))


def _table(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1), show_edge=False)
    table.add_column("hits", justify="right", no_wrap=True)
    table.add_column("problem", ratio=1, overflow="fold")
    for problem in report.problems:
        table.add_row(_count(problem), _cell(problem))
        table.add_section()
    return table


def _count(problem: Problem) -> Text:
    return Text(f"{problem.count:,}", style=f"bold {COLOURS.get(problem.level, 'yellow')}")


def _cell(problem: Problem) -> Group:
    first = Text()
    if problem.is_new:
        first.append("new ", style="bold magenta")
    first.append(problem.subject, style="bold")
    first.append(f"  {problem.fingerprint}", style="dim")
    place = Text()
    place.append(problem.place, style="cyan")
    place.append(f" in {problem.function}", style="dim")
    advice = Text(problem.advice, style="green")
    return Group(first, place, advice, Text(about(problem), style="dim"))
