"""The server under load, its databases, and what is measured on both."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import demo
import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
MYSELF = "async_guard_load"
WORKERS = 2
SAMPLE_S = 0.05
HOST, PORT = os.environ.get("PGHOST", "127.0.0.1"), os.environ.get("PGPORT", "5432")
USER = os.environ.get("PGUSER", "postgres")


def connect(database: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=HOST,
        port=PORT,
        user=USER,
        dbname=database,
        application_name=MYSELF,
        autocommit=True,
        connect_timeout=10,
    )


@dataclass
class Database:
    """A database of our own."""

    name: str

    @contextmanager
    def made(self, template: str = "template0") -> Iterator[Database]:
        """Create it; drop it when the block ends."""
        self._admin("CREATE DATABASE {} TEMPLATE {}", template)
        try:
            yield self
        finally:
            self._admin("DROP DATABASE {} WITH (FORCE)")

    def _admin(self, statement: str, *names: str) -> None:
        with connect("postgres") as connection:
            identifiers = map(sql.Identifier, (self.name, *names))
            connection.execute(sql.SQL(statement).format(*identifiers))

    def stop(self) -> None:
        """Let nobody in, and throw everybody out: to its clients the server is down."""
        self._admin("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        with connect("postgres") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [self.name],
            )

    def start(self) -> None:
        self._admin("ALTER DATABASE {} ALLOW_CONNECTIONS true")

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with connect(self.name) as connection:
            return connection.execute(statement, parameters or None).fetchall()

    def column(self, statement: str, *parameters: Any) -> list[Any]:
        return [row[0] for row in self.rows(statement, *parameters)]


@dataclass
class Site(demo.Site):
    """The example project on a PostgreSQL database, with the retry as *options* say."""

    database_name: str = ""
    options: dict[str, str] = field(default_factory=dict)
    application: str = "tests.load.asgi:application"

    def environment(self) -> dict[str, str]:
        before = super().environment()
        return {
            **before,
            "DJANGO_SETTINGS_MODULE": "tests.load.settings",
            "PYTHONPATH": f"{demo.HERE}{os.pathsep}{ROOT}{os.pathsep}{before['PYTHONPATH']}",
            "POSTGRES_DB": self.database_name,
            "POSTGRES_HOST": HOST,
            "POSTGRES_PORT": PORT,
            "POSTGRES_USER": USER,
            "LOAD_AUTO_RETRY": "off",
            **self.options,
        }

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the workers until the block ends."""
        with self.served() as api:
            yield Server(int(api.url.rpartition(":")[2]), self.workers_of(os.getpid()))

    @staticmethod
    def workers_of(parent: int) -> list[int]:
        """Return the process ids of uvicorn's workers, which are grandchildren of *parent*."""
        parents = {pid: stat_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
        children = {pid for pid, its in parents.items() if its == parent}
        return [
            pid
            for pid, its in parents.items()
            if its in children and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


def stat_of(pid: int) -> int | None:
    """Return the parent of a process."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


@dataclass
class Server:
    port: int
    workers: list[int]

    def gauge(self) -> tuple[int, list[int]]:
        """Return how many threads the workers have, and the kilobytes of each worker."""
        found = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers]
        threads = [int(re.search(r"^Threads:\s+(\d+)", each, re.M)[1]) for each in found]
        return sum(threads), [int(re.search(r"^VmRSS:\s+(\d+)", each, re.M)[1]) for each in found]


@dataclass
class Sample:
    at: float
    threads: int
    """Of all workers, whatever they are for."""
    rss_kb: list[int]
    """Of each worker."""
    states: Counter[str]
    """The connections, by state."""
    held_s: float
    """For so long the oldest open transaction has had nothing to do."""

    @property
    def connections(self) -> int:
        return self.states.total()


class Gauges:
    """Looks at processes and connections many times a second, in a thread of its own."""

    _STATES = """
        SELECT coalesce(state, 'starting'), count(*),
            max(CASE WHEN state LIKE 'idle in transaction%%'
                THEN extract(epoch FROM clock_timestamp() - state_change) ELSE 0 END)::float
        FROM pg_stat_activity
        WHERE datname = %s AND application_name <> %s AND backend_type = 'client backend'
        GROUP BY 1
    """

    def __init__(self, server: Server, database: Database) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._database = database
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gauges")
        self._connection = connect("postgres")

    def __enter__(self) -> Gauges:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        with suppress(FileNotFoundError):  # a worker died: the scenario says so
            while not self._stopped.wait(SAMPLE_S):
                self.samples.append(self._sample())

    def _sample(self) -> Sample:
        before, _ = self._server.gauge()
        found = self._connection.execute(self._STATES, [self._database.name, MYSELF]).fetchall()
        after, rss_kb = self._server.gauge()
        return Sample(
            time.monotonic(),
            max(before, after),
            rss_kb,
            Counter({state: count for state, count, _ in found}),
            max((held for *_, held in found), default=0.0),
        )

    def since(self, moment: float) -> list[Sample]:
        return [each for each in self.samples if each.at >= moment]
