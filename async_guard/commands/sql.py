"""``sql``: ask the logs anything; the table is called ``hits``."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, TextIO

from async_guard.commands.inputs import add_paths
from async_guard.logs.failures import CommandFailed
from async_guard.logs.parquet import cached_tables, connected, quoted
from async_guard.logs.report import summed_up
from async_guard.logs.sources import find_sources

HELP = "Ask the events by SQL (DuckDB); the table is called hits, its columns as in a Hit."
WIDEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", metavar="SQL")
    add_paths(parser)
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")


def run(options: argparse.Namespace, out: TextIO) -> int:
    sources = find_sources(options.paths)
    with tempfile.TemporaryDirectory() as folder, connected() as connection:
        tables, accounts = cached_tables(connection, sources, folder)
        names = ", ".join(map(quoted, tables))
        connection.execute(f"CREATE VIEW hits AS SELECT * FROM read_parquet([{names}])")
        answer = connection.execute(options.query)
        if answer is None:
            raise CommandFailed("There is no SQL in it: ask, for example, 'select * from hits'.")
        heads = [column[0] for column in answer.description or ()]
        _WRITERS[options.format](heads, answer.fetchall(), out)
    print("\n".join(summed_up(accounts)), file=sys.stderr)
    return 0


def _write_table(heads: Sequence[str], rows: list[tuple[Any, ...]], out: TextIO) -> None:
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        out.write("  ".join(map(str.ljust, line, widths)).rstrip() + "\n")


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _write_csv(heads: Sequence[str], rows: list[tuple[Any, ...]], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)


def _write_json(heads: Sequence[str], rows: list[tuple[Any, ...]], out: TextIO) -> None:
    names = _distinct(heads)
    for row in rows:
        line = dict(zip(names, map(_finite, row), strict=True))
        out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _distinct(heads: Sequence[str]) -> list[str]:
    """Number the columns of one name, so that no value is lost."""
    names: list[str] = []
    for head in heads:
        numbered = (f"{head}_{number}" for number in itertools.count(1))
        names.append(next(each for each in itertools.chain((head,), numbered) if each not in names))
    return names


def _finite(value: Any) -> Any:
    """Return *value* with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}
