"""The same report from several machines: a scheduler and two workers, over TCP."""

import bz2
import gzip
import importlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from async_guard import cli
from async_guard.logs import cluster, reading
from async_guard.logs.failures import CommandFailed, MissingExtra
from async_guard.logs.sources import find_sources
from tests.logs.making import FOREIGN, line, summary
from tests.logs.test_reading import mixed_log

PATIENCE_S = 60
ADDRESS = re.compile(r"Registered to:|Scheduler at: +(tcp://\S+)")
LACKING = "import sys; sys.modules['async_guard'] = None"
OLDER = "import async_guard.hit as hit; hit.package_version = lambda: '0.0.9'"


@contextmanager
def started(role: str, folder: Path, *arguments: str, first: str = "") -> Iterator[str]:
    """Run a part of a cluster in *folder* until the block ends; give its scheduler's address."""
    code = f"{first}\nfrom distributed.cli.dask_{role} import main\nmain()"
    log = folder / f"{role}-{time.monotonic_ns()}.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--no-dashboard", "--host", "127.0.0.1"],
            cwd=folder,
            env=os.environ | {"DASK_TEMPORARY_DIRECTORY": str(folder), "PYTHONWARNINGS": ""},
            stdout=out,
            stderr=out,
        )
    try:
        yield from _addresses(process, log)
    finally:
        process.kill()
        process.wait()


def _addresses(process: subprocess.Popen, log: Path) -> Iterator[str]:
    """Yield once: when the log says that it is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := ADDRESS.search(log.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(log.read_text())
        time.sleep(0.05)
    yield found[1] or ""


def worker(folder: Path, scheduler: str, first: str = ""):
    return started("worker", folder, scheduler, "--nthreads", "1", "--no-nanny", first=first)


@pytest.fixture(scope="module")
def workers_folder(tmp_path_factory) -> Path:
    """Where the workers run: not where the command does."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def scheduler(workers_folder) -> Iterator[str]:
    """Return the address of a scheduler that has two workers."""
    with (
        started("scheduler", workers_folder, "--port", "0") as address,
        worker(workers_folder, address),
        worker(workers_folder, address),
    ):
        yield address


def corpus(folder: Path) -> None:
    """Write logs of every sort: damaged, rotated, compressed, and compressed and damaged."""
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    zstd = importlib.import_module(module)
    folder.mkdir()
    (folder / "app.log").write_bytes(mixed_log(350) + line(2)[:300].encode())
    (folder / "app.log.1").write_bytes(b"\xef\xbb\xbf" + mixed_log(100).replace(b"\n", b"\r\n"))
    (folder / "app.log.2.gz").write_bytes(gzip.compress(mixed_log(60)))
    (folder / "app.log.3.zst").write_bytes(zstd.compress(mixed_log(40)))
    (folder / "app.log.4").write_bytes(bz2.compress(mixed_log(200))[:-2000])
    (folder / "empty.log").write_bytes(b"")
    (folder / "foreign.log").write_text(f"{FOREIGN}\n\0\xff\n")
    (folder / "summaries.log").write_text(f"{summary(1, 7)}\n{summary(2, 0)}\n")


def report(capsys, *arguments: str) -> tuple[int, object, str]:
    """Return the exit status, the report without the time that it was made at, and stderr."""
    status = cli.main(["report", "--format", "json", *arguments])
    said = capsys.readouterr()
    found = json.loads(said.out) if said.out else {}
    found.pop("made_at", None)
    return status, found, said.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--fail-on", "any"], ["--outcome", "swallowed", "--until", "2026-01-31T13:00:00Z"]],
    ids=["all", "exit status", "filters"],
)
def test_report(scheduler, tmp_path, monkeypatch, capsys, arguments):
    """
    A cluster reports what one process does: counts, problems, samples, losses, and exit status.
    """
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "logs")
    here = report(capsys, "logs", "--processes", "1", *arguments)
    monkeypatch.setattr(reading, "RANGE", 300_000)
    parts = list(reading.split(find_sources(["logs"])))
    there = report(capsys, "logs", "--dask", scheduler, *arguments)

    assert there == here
    assert here[1]["input"]["lost"] > 10 and here[1]["input"]["files"] == 8
    assert len(parts) > 8
    assert {part.end for part in parts if part.source.path.endswith((".gz", ".zst", ".4"))} == {
        None
    }


def test_what_travels(tmp_path):
    """
    What comes back from a worker does not grow with the log.
    """
    sizes = []
    for lines in (20, 2000):
        (tmp_path / "app.log").write_text((line(1) + "\n") * lines)
        [source] = find_sources([str(tmp_path / "app.log")])
        order = cluster.Order(
            reading.Part(source), cluster.glimpse(source), filters=reading.Filters()
        )
        sizes.append(len(pickle.dumps(cluster.read_on_worker(order))))

    assert sizes[1] - sizes[0] < 20


# --- one sentence, and exit status 2 -------------------------------------------------------------


@pytest.fixture
def log(tmp_path) -> str:
    path = tmp_path / "app.log"
    path.write_text(line(1) + "\n")
    return str(path)


def refused(capsys, *arguments: str) -> str:
    """Return the sentence that a report is refused with."""
    status, found, said = report(capsys, *arguments)

    assert (status, found) == (2, {})
    assert said.startswith("async-guard: ") and said.count("\n") == 1
    return said.removeprefix("async-guard: ").strip()


@pytest.mark.parametrize("address", ["", "localhost", "tcp://localhost", "http://localhost:8786"])
def test_no_address(log, capsys, address):
    """
    What is no address is told with one that is.
    """
    assert refused(capsys, log, "--dask", address) == (
        f"{address!r} is no address of a Dask scheduler, such as tcp://127.0.0.1:8786."
    )


@pytest.mark.parametrize("listens", [True, False], ids=["silent", "closed"])
def test_no_scheduler(log, capsys, monkeypatch, listens):
    """
    An address at which no scheduler answers is given up soon, whatever listens there.
    """
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()

        assert refused(capsys, log, "--dask", address) == (
            f"No Dask scheduler answers at {address}."
        )
        assert time.monotonic() - began < 10


def test_standard_input(capsys):
    """
    Standard input is nothing that a worker could open.
    """
    assert refused(capsys, "-", "--dask", "tcp://127.0.0.1:1") == (
        "--dask reads files, which its workers open; standard input is none."
    )


@pytest.mark.parametrize("option", [["--unique"], ["--processes", "2"]])
def test_one_machine(log, capsys, option):
    """
    Options that a cluster cannot keep are refused, not ignored.
    """
    assert refused(capsys, log, *option, "--dask", "tcp://127.0.0.1:1") == (
        "--unique and --processes are for one machine: leave out --dask."
    )


def test_without_the_extra(log, capsys, monkeypatch):
    """
    Without Dask it is told what to install.
    """
    monkeypatch.delitem(sys.modules, "async_guard.logs.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)

    assert refused(capsys, log, "--dask", "tcp://127.0.0.1:1") == (
        "--dask needs Dask: pip install 'async-guard[cluster]'"
    )


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (LACKING, r"cannot import async_guard: pip install 'async-guard\[cluster\]' there\."),
        (OLDER, r"has async_guard 0\.0\.9, but this is \S+: they have to be the same\."),
    ],
    ids=["lacking", "older"],
)
def test_other_worker(scheduler, workers_folder, log, first, sentence):
    """
    A worker that cannot count as we do is named before anything is read, without a traceback.
    """
    with worker(workers_folder, scheduler, first):
        done = subprocess.run(
            [sys.executable, "-m", "async_guard", "report", log, "--dask", scheduler],
            capture_output=True,
            text=True,
        )

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"async-guard: The Dask worker tcp://\S+ {sentence}\n", done.stderr)


def test_no_worker(workers_folder, log, capsys):
    """
    A scheduler without workers is told, instead of waiting for some.
    """
    with started("scheduler", workers_folder, "--port", "0") as address:
        assert refused(capsys, log, "--dask", address) == "The Dask cluster has no workers."


LONG = f"{FOREIGN}\n" * 200


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (None, "cannot be read: No such file or directory."),
        (
            f"{LONG}{line(2)}\n",
            "is another file than here: the logs have to be on storage that all share.",
        ),
    ],
    ids=["missing", "another"],
)
@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="needs /proc")
def test_other_storage(scheduler, workers_folder, tmp_path, monkeypatch, capsys, there, sentence):
    """
    A log that is not on the worker, or is another one there, is told with the worker's name.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.log").write_text(f"{LONG}{line(1)}\n")
    path = "/proc/self/cwd/app.log"  # a path that means one thing here and another there
    (workers_folder / "app.log").unlink(missing_ok=True)
    if there is not None:
        (workers_folder / "app.log").write_text(there)

    assert re.fullmatch(
        rf"On the Dask worker tcp://\S+: {path} {re.escape(sentence)}",
        refused(capsys, path, "--dask", scheduler),
    )


def test_missing_codec(tmp_path, monkeypatch):
    """
    What a process lacks to read an archive is told by the one that it works for.
    """
    missing = MissingExtra("A log compressed with zstd", "backports.zstd", "zstd")
    travelled = pickle.loads(pickle.dumps(missing))

    assert isinstance(travelled, CommandFailed)
    assert str(travelled) == str(missing)
