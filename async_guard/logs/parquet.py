"""
Parquet files of events, written from what our own reader reads, by DuckDB.

DuckDB reads no log itself: asked to ignore errors it leaves out what the reader recovers. Beside
each log lies its table; size and time of the log are part of the name, so that it cannot be old.
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from async_guard.logs.accounts import Accounts, Loss
from async_guard.logs.failures import CommandFailed, MissingExtra
from async_guard.logs.filters import Filters
from async_guard.logs.rows import columns, dumped, read_rows
from async_guard.logs.sources import STDIN, Source

FORMAT = 2
"""Of the tables; another one makes old caches unknown."""
LONGEST_NAME = 240
"""Bytes; of the 255 that a file's name may have, some are for the number of a process."""
_CACHE = re.compile(r"\.(?P<log>.+)\.\d+-\d+\.async-guard-\d+\.parquet", re.S)


def load_duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        raise MissingExtra("This", "DuckDB", "sql") from None


@contextmanager
def connected() -> Iterator[Any]:
    """Open a database in memory."""
    duckdb = load_duckdb()
    connection = duckdb.connect(":memory:")
    try:
        yield connection
    except duckdb.Error as error:
        raise CommandFailed(f"DuckDB: {' '.join(str(error).split())}") from error
    finally:
        connection.close()


def write_parquet(
    connection: Any, sources: Sequence[Source], filters: Filters, path: str
) -> Accounts:
    """Write the events of *sources* to *path*, and what became of the input into it, too."""
    with tempfile.TemporaryDirectory() as folder:
        lines = os.path.join(folder, "rows.jsonl")
        with open(lines, "w", encoding="utf-8", errors="replace") as file:
            accounts = read_rows(sources, filters, lambda row: file.write(dumped(row)))
        table = f"read_json({quoted(lines)}, format='newline_delimited', columns={_columns()}"
        table += ", maximum_object_size=134217728)"
        metadata = quoted(json.dumps(asdict(accounts)))
        connection.execute(
            f"COPY (SELECT * FROM {table}) TO {quoted(path)} "
            f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{async_guard: {metadata}}})"
        )
    return accounts


def _columns() -> str:
    return "{" + ", ".join(f"{quoted(name)}: '{kind}'" for name, kind in columns().items()) + "}"


def quoted(text: str) -> str:
    """Return *text* as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


# --- the cache -----------------------------------------------------------------------------------


def cached_tables(
    connection: Any, sources: Sequence[Source], folder: str
) -> tuple[list[str], Accounts]:
    """
    Return a table per source, from the cache beside it where that is up to date.

    Args:
        folder: where the tables of sources go beside which nothing can be written.
    """
    _remove_orphans(sources)
    paths, accounts = [], Accounts()
    for number, source in enumerate(sources):
        path = _cache_path(source) or os.path.join(folder, f"{number}.parquet")
        known = _accounts_in(connection, path) if os.path.exists(path) else None
        if known is None and not os.access(os.path.dirname(path), os.W_OK):
            path = os.path.join(folder, f"{number}.parquet")
        accounts.add(known or _made(connection, source, path))
        paths.append(path)
    return paths, accounts


def _remove_orphans(sources: Sequence[Source]) -> None:
    """Remove the tables of logs that are gone, rotated away perhaps, from the sources' folders."""
    files = [os.path.abspath(source.path) for source in sources if source.path != STDIN]
    for folder in {os.path.dirname(file) for file in files}:
        with suppress(OSError):
            for name in os.listdir(folder):
                match = _CACHE.fullmatch(name)
                if match and not os.path.lexists(os.path.join(folder, match["log"])):
                    os.unlink(os.path.join(folder, name))


def _cache_path(source: Source) -> str | None:
    if source.path == STDIN or not os.path.isfile(source.path) or not _is_utf8(source.path):
        return None
    found = os.stat(source.path)
    folder, log = os.path.split(os.path.abspath(source.path))
    name = f".{log}.{found.st_size}-{found.st_mtime_ns}.async-guard-{FORMAT}.parquet"
    return os.path.join(folder, name) if len(os.fsencode(name)) <= LONGEST_NAME else None


def _is_utf8(path: str) -> bool:
    """Tell whether DuckDB can be told the name of a file."""
    return path.encode("utf-8", "replace").decode() == path


def _made(connection: Any, source: Source, path: str) -> Accounts:
    """Write the table of *source*, and remove the old ones."""
    half = f"{path}.{os.getpid()}"
    try:
        accounts = write_parquet(connection, [source], Filters(), half)
        os.replace(half, path)
    finally:
        with suppress(OSError):
            os.unlink(half)
    name = os.path.basename(source.path)
    for old in glob.glob(
        os.path.join(
            glob.escape(os.path.dirname(path)), f".{glob.escape(name)}.*-*.async-guard-*.parquet"
        )
    ):
        if old != path:
            with suppress(OSError):
                os.unlink(old)
    return accounts


def _accounts_in(connection: Any, path: str) -> Accounts | None:
    """Return what became of the input of a table; None: it is damaged."""
    try:
        rows = connection.execute(
            f"SELECT decode(value) FROM parquet_kv_metadata({quoted(path)}) "
            "WHERE decode(key) = 'async_guard'"
        ).fetchall()
        found = json.loads(rows[0][0])
        found["first_lost"] = [Loss(*loss) for loss in found["first_lost"]]
        found["first_unread"] = found["first_unread"] and Loss(*found["first_unread"])
        return Accounts(**found)
    except (load_duckdb().Error, LookupError, TypeError, ValueError):
        return None
