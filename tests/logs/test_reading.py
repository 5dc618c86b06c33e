"""All of a log: ranges and processes, and how much memory that takes."""

import json
import os
import random
import subprocess
import sys

import pytest

from async_guard.logs import decoding, reading
from async_guard.logs.sources import find_sources
from tests.logs.making import FOREIGN, as_dict, counts, event, line, nested, read_bytes, summary
from tests.logs.test_envelopes import docker, otlp, otlp_record


def cri(tag: str, text: str) -> str:
    return f"2026-02-01T00:00:00Z stdout {tag} {text}"


def mixed_log(number: int = 3000) -> bytes:
    """Return lines of every sort, whole, torn and in pieces."""
    dice = random.Random(7)
    lines: list[str] = []
    for _ in range(number):
        which, i = dice.randrange(12), dice.randrange(1, 9)
        text = line(i, relation=f"users.User.field{i}")
        cut = dice.randrange(150, len(text))
        lines += {
            0: [text],
            1: [summary(i, dice.randrange(1, 50))],
            2: [docker(text + "\n")],
            3: [docker(text[:cut]), docker("other\n", "stderr"), docker(text[cut:] + "\n")],
            4: [cri("P", text[:cut]), cri("F", text[cut:])],
            5: [text[:cut] + line(9), text[cut:]],
            6: [text[:cut]],
            7: [otlp(otlp_record(i), otlp_record(i))],
            8: [json.dumps(nested(event(i)))],
        }.get(which, [FOREIGN] * 5)
    return "\n".join([*lines, ""]).encode()


@pytest.mark.parametrize("size", [50_000, 300_000, 1_000_000])
def test_ranges(tmp_path, size):
    """
    The result is the same whatever the ranges are that a file is read in, and their order.
    """
    data = mixed_log()
    whole = read_bytes(tmp_path, data)
    parts = list(reading.split(find_sources([str(tmp_path / "app.log")]), size))
    results = reading.InOrder()
    for number in random.Random(size).sample(range(len(parts)), len(parts)):
        results.add(number, reading.read_in_worker(parts[number], reading.Filters()))
    result = results.total(files=1)

    assert len(parts) > 2
    assert as_dict(result) == as_dict(whole)


@pytest.mark.parametrize("indent", [1, 4])
def test_ranges_of_what_is_printed_over_many_lines(tmp_path, indent):
    """
    No range ends within an object, so none loses the time that stands first in it.
    """
    events = [event(n % 9 + 1) | {"pad": "x" * (n * 37 % 997)} for n in range(300)]
    data = json.dumps(events, indent=indent).encode()
    whole = read_bytes(tmp_path, data)
    for size in (20_000, 33_333, 47_000):
        results = reading.InOrder()
        for number, part in enumerate(
            reading.split(find_sources([str(tmp_path / "app.log")]), size)
        ):
            results.add(number, reading.read_in_worker(part, reading.Filters()))
        assert as_dict(results.total(files=1)) == as_dict(whole)
    assert sum(sum(tally.trend.buckets.values()) for tally in whole.tallies) == 300


def test_order(tmp_path):
    """
    Samples and their order are those of the log, in whatever order its parts come.
    """
    path = tmp_path / "app.log"
    events = [event(1) | {"request_id": f"r{number}"} for number in range(8)]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in events))
    [source] = find_sources([str(path)])
    size = source.size // 8
    results = reading.InOrder()
    for number in (6, 1, 3, 0, 7, 5, 2, 4):
        part = reading.Part(source, number * size, (number + 1) * size)
        results.add(number, reading.read_in_worker(part, reading.Filters()))
    [tally] = results.total(files=1).tallies

    assert tally.samples["request_ids"] == ["r0", "r1", "r2", "r3", "r4"]
    assert tally.count == 8


def test_processes(tmp_path, monkeypatch):
    """
    Several processes find what one finds.
    """
    monkeypatch.setattr(reading, "RANGE", 1 << 20)
    data = mixed_log()
    one = read_bytes(tmp_path, data)
    two = read_bytes(tmp_path, data, processes=2)

    assert as_dict(two) == as_dict(one)
    assert sum(counts(one).values()) > 1000


def test_without_msgspec(tmp_path, monkeypatch):
    """
    The fast decoder finds what the slow one finds.
    """
    data = mixed_log(1000)
    fast = read_bytes(tmp_path, data)
    monkeypatch.setattr(decoding, "msgspec", None)

    assert as_dict(read_bytes(tmp_path, data)) == as_dict(fast)


MEASURE = """
import sys
from async_guard.logs.reading import read
from async_guard.logs.sources import find_sources
result = read(find_sources(sys.argv[1:]))
status = open("/proc/self/status").read()  # ru_maxrss would be that of the process forked from
print(int(status.split("VmHWM:")[1].split()[0]) // 1024, len(result.tallies))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["many lines", "one long line", "one long hit", "gzip bomb"])
def test_memory(tmp_path, kind):
    """
    However large the input is, 100 MB are enough.
    """
    import gzip

    path = tmp_path / "app.log"
    block = ((line(1) + "\n") * 300 + (FOREIGN + "\n") * 3000).encode()
    if kind == "many lines":
        with path.open("wb") as file:
            for _ in range(150):
                file.write(block)
    elif kind == "one long line":
        path.write_bytes(b"x" * 300_000_000 + b"\n" + block)
    elif kind == "one long hit":
        path.write_text(line(1, code__text="y" * 20_000_000) + "\n" + line(2))
    else:
        path.write_bytes(gzip.compress(b"\0" * 300_000_000) + gzip.compress(block))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    megabytes, found = map(int, done.stdout.split())

    assert megabytes < 100
    assert found >= 1


def test_vanished(tmp_path):
    """
    A file that goes away while the others are read is one that cannot be read.
    """
    from async_guard.logs.failures import CommandFailed

    path = tmp_path / "app.log"
    path.write_text(line(1))
    sources = find_sources([str(path)])
    path.unlink()

    with pytest.raises(CommandFailed, match="cannot be read: No such file"):
        reading.read(sources)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden(tmp_path):
    """
    A file that may not be read is told before anything is.
    """
    from async_guard.logs.failures import CommandFailed

    path = tmp_path / "app.log"
    path.write_text(line(1))
    path.chmod(0)

    with pytest.raises(CommandFailed, match="Permission denied"):
        find_sources([str(path)])


def test_trend(tmp_path):
    """
    Memory for the trend of years is that of hours, and nothing of it is lost.
    """
    days = [
        line(1, count=day).replace(
            "2026-01-31T12:34", f"20{10 + day % 16}-{1 + day % 12:02}-01T12:34"
        )
        for day in range(1, 400)
    ]
    [tally] = read_bytes(tmp_path, "\n".join(days).encode()).tallies

    assert len(tally.trend.buckets) <= 64
    assert sum(count for _, count in tally.trend.points()) == tally.count == sum(range(1, 400))
