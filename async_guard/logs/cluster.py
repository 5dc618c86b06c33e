"""
The parts of logs, read by the workers of a Dask cluster.

Each worker opens the files itself, by the same path, and reads its ranges as any process does that
shares the work on one machine. What travels is tallies, never lines: memory depends on the number
of problems, here and there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

import distributed

from async_guard.hit import package_version
from async_guard.logs.failures import CommandFailed
from async_guard.logs.filters import Filters
from async_guard.logs.reading import InOrder, Part, Progress, Result, read_in_worker, split
from async_guard.logs.sources import STDIN, Source

CONNECT_S = 10.0
PATIENCE_S = 10.0
"""After so long without a result, the cluster is asked whether it still lives."""
AHEAD = 4
"""So many parts are handed out per thread of the cluster."""
GLIMPSE = 1 << 12
_LOST = (CancelledError, OSError, TimeoutError, distributed.comm.CommClosedError)


class Order(NamedTuple):
    """What a worker is told to read."""

    part: Part
    """Its path is absolute: a worker runs in a folder of its own."""
    glimpse: bytes
    filters: Filters


def read_on_cluster(
    address: str, sources: Sequence[Source], filters: Filters, progress: Progress | None = None
) -> Result:
    """
    Have the workers of the scheduler at *address* read *sources*.

    Args:
        progress: is told how many more bytes were read.

    Raises:
        CommandFailed: the cluster cannot be reached or does not last, or a file cannot be read
            there.
    """
    _check_sources(sources)
    with _connected(address) as client:
        threads = _check_cluster(client)
        results = InOrder()
        for number, part, result in _read_parts(client, split(sources), filters, AHEAD * threads):
            results.add(number, result)
            if progress is not None:
                progress(part.size)
    return results.total(len(sources))


def _check_sources(sources: Iterable[Source]) -> None:
    for source in sources:
        if source.path == STDIN or not os.path.isfile(source.path):
            raise CommandFailed(
                f"--dask reads files, which its workers open; {source.name} is none."
            )


# --- the cluster ---------------------------------------------------------------------------------


@contextmanager
def _connected(address: str) -> Iterator[distributed.Client]:
    """Connect to the scheduler at *address*; whatever ends that is one sentence."""
    _hush()
    try:
        distributed.comm.get_address_host_port(address, strict=True)
    except (ValueError, TypeError):
        raise CommandFailed(
            f"{address!r} is no address of a Dask scheduler, such as tcp://127.0.0.1:8786."
        ) from None
    # A client that fails to connect has threads left, which say so for long on stderr.
    if asyncio.run(_kind(address)) != "Scheduler":
        raise CommandFailed(f"No Dask scheduler answers at {address}.")
    try:
        with distributed.Client(address, timeout=CONNECT_S) as client:
            yield client
    except _LOST:
        raise CommandFailed(
            f"The connection to the Dask scheduler at {address} was lost."
        ) from None


async def _kind(address: str) -> str | None:
    """Return what answers at *address*: a ``Scheduler``, a ``Worker``; None: nothing of Dask's."""
    try:
        async with asyncio.timeout(CONNECT_S), distributed.rpc(address) as there:
            kind: str = (await there.identity())["type"]
            return kind
    except Exception:  # anything may listen there, and answer anything
        return None


def _hush() -> None:
    """Keep Dask's own log, with its tracebacks, off the terminal: what matters is raised."""
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_cluster(client: distributed.Client) -> int:
    """Return how many threads can read; each must count as we do."""
    threads: int = sum(client.nthreads().values())
    if not threads:
        raise CommandFailed("The Dask cluster has no workers.")
    found = dict(client.run(package_version, on_error="return"))
    try:
        found["scheduler"] = client.run_on_scheduler(package_version)
    except _LOST:
        raise
    except Exception as error:
        found["scheduler"] = error
    for name, version in found.items():
        _check_version(name if name == "scheduler" else f"worker {name}", version)
    return threads


def _check_version(name: str, version: object) -> None:
    if isinstance(version, Exception):  # which, Dask does not always say
        raise CommandFailed(
            f"The Dask {name} cannot import async_guard: pip install 'async-guard[cluster]' there."
        )
    if version != package_version():
        raise CommandFailed(
            f"The Dask {name} has async_guard {version}, but this is {package_version()}: "
            "they have to be the same."
        )


def _read_parts(
    client: distributed.Client, parts: Iterable[Part], filters: Filters, ahead: int
) -> Iterator[tuple[int, Part, Result]]:
    """Yield number, part and result of each of *parts*, as they are read."""
    running: dict[distributed.Future, tuple[int, Part]] = {}
    for number, part in enumerate(parts):
        if len(running) >= ahead:
            yield from _finished(client, running)
        order = Order(_absolute(part), glimpse(part.source), filters)
        # not pure: the same part of a log that has changed must be read again
        running[client.submit(read_on_worker, order, pure=False)] = number, part
    while running:
        yield from _finished(client, running)


def _finished(
    client: distributed.Client, running: dict[distributed.Future, tuple[int, Part]]
) -> Iterator[tuple[int, Part, Result]]:
    """Wait for one of *running* at least, and take out those that are done."""
    try:
        done = distributed.wait(list(running), PATIENCE_S, "FIRST_COMPLETED").done
    except TimeoutError:
        if not client.nthreads():
            raise CommandFailed("The Dask cluster has no workers any more.") from None
        return
    for future in done:
        number, part = running.pop(future)
        result = _result(future, part)
        result.accounts.rename(part.source.name)
        yield number, part, result


def _result(future: distributed.Future, part: Part) -> Result:
    try:
        result: Result = future.result(timeout=PATIENCE_S)
    except (CommandFailed, *_LOST):
        raise
    except distributed.KilledWorker:
        raise CommandFailed(
            f"The Dask workers that read {part.source.name} died, for lack of memory perhaps."
        ) from None
    except Exception as error:  # of the cluster: what is wrong with a log is counted, not raised
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CommandFailed(f"Dask failed to read {part.source.name}: {reason}") from None
    return result


def _absolute(part: Part) -> Part:
    source = part.source
    path = os.path.abspath(source.path)
    return part._replace(source=Source(path, source.size, source.is_seekable))


# --- a worker ------------------------------------------------------------------------------------


def read_on_worker(order: Order) -> Result:
    """Read what *order* says, if it is there what it was here."""
    try:
        if glimpse(order.part.source) != order.glimpse:
            raise CommandFailed(
                f"{order.part.source.path} is another file than here: "
                "the logs have to be on storage that all share."
            )
        return read_in_worker(order.part, order.filters)
    except CommandFailed as error:
        address = distributed.get_worker().address
        raise CommandFailed(f"On the Dask worker {address}: {error}") from None


def glimpse(source: Source) -> bytes:
    """
    Return a digest of how a file begins and of what stands before its end as it is known.

    A machine of its own often has another log by the same path, which must not be counted.
    """
    try:
        with open(source.path, "rb") as file:
            first = file.read(min(GLIMPSE, source.size))
            file.seek(max(0, source.size - GLIMPSE))
            last = file.read(min(GLIMPSE, source.size))
    except OSError as error:
        raise CommandFailed(f"{source.path} cannot be read: {error.strerror}.") from error
    return blake2b(first + last, digest_size=16).digest()
