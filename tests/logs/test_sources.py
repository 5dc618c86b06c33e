"""What is read: folders, globs, pipes and standard input; and what cannot be."""

import io
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from async_guard import cli
from tests.logs.making import line


def read(*paths: object, capsys) -> tuple[int, dict[int, int], str]:
    """Return the exit status of a report, its hits by number, and what it complains of."""
    status = cli.main(["report", *map(str, paths)])
    said = capsys.readouterr()
    found = re.findall(r"^([0-9a-f]{16}) +(\d+)", said.out, re.M)
    return status, {int(name, 16): int(count) for name, count in found}, said.err


def test_folders_of_a_glob(tmp_path, capsys):
    """
    A glob may match folders: all that is below them is read, but for what is hidden.
    """
    for number, name in enumerate(["a/app.log", "a/old/app.log.1", "b/app.log", "a/.git/x"], 1):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line(number))

    assert read(tmp_path / "*", capsys=capsys) == (0, {1: 1, 2: 1, 3: 1}, "")


def test_pipe(tmp_path, capsys):
    """
    A named pipe is read once, from its beginning to its end.
    """
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(line(1, count=3),))
    writer.start()

    assert read(path, capsys=capsys) == (0, {1: 3}, "")
    writer.join()


def test_standard_input(monkeypatch, capsys):
    """
    ``-`` is standard input, once, however often it is named.
    """
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line(1).encode())))

    assert read("-", "-", capsys=capsys) == (0, {1: 1}, "")


def test_link_to_nowhere(tmp_path, capsys):
    """
    A link that leads nowhere is named, where a glob finds it.
    """
    path = tmp_path / "app.log"
    path.symlink_to(tmp_path / "gone.log")

    assert read(tmp_path / "*.log", capsys=capsys) == (
        2,
        {},
        f"async-guard: {path} cannot be read: No such file or directory.\n",
    )


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that is Linux's")
def test_file_that_cannot_be_read(capsys):
    """
    So is a file that is there and cannot be read.
    """
    assert read("/proc/self/mem", capsys=capsys) == (
        2,
        {},
        "async-guard: /proc/self/mem cannot be read: Input/output error.\n",
    )
