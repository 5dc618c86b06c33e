"""
Processes of their own for what is measured. The parent only says whose turn it is.

Most contenders are switched on and off within one process. One that patches for good has a process
of its own, beside another that stays bare for ever. Two processes differ by the layout of their
memory alone, by several percent; so they are replaced every few rounds, by some with another seed
of string hashes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import IO, Any

from benchmarks import contenders, project, workloads
from benchmarks.contenders import Contender
from benchmarks.turn import Stage, pin_to_one_cpu
from benchmarks.workloads import Workload


class Child(AbstractContextManager["Child"]):
    """The parent's handle on a process that takes turns when it is told to."""

    def __init__(self, *apps: str, seed: int = 0) -> None:
        self._process = subprocess.Popen(
            _command("child", *apps),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(seed),
        )

    def turn(self, workload: Workload, contender: Contender) -> float:
        """Have one turn taken over there, and return its CPU seconds."""
        print(json.dumps([workload.name, contender.name]), file=self._stdin, flush=True)
        answer = self._stdout.readline()
        if not answer:
            raise RuntimeError(f"The process died at {contender.name}, {workload.name}.")
        return float(answer)

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __exit__(self, *exc_info: object) -> None:
        self._stdin.close()
        self._process.wait()
        self._stdout.close()


def ask(module: str, *arguments: str, seed: int = 0) -> Any:
    """Run one of our modules in a fresh process, and return the JSON that it prints."""
    done = subprocess.run(
        _command(module, *arguments),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=_environment(seed),
    )
    return json.loads(done.stdout)


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{module}", *arguments]


def _environment(seed: int) -> Mapping[str, str]:
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a deployed program has its bytecode
    return environment


def main(*apps: str) -> None:
    """Answer each line of standard input, a workload and a contender, with the seconds it took."""
    pin_to_one_cpu()
    project.set_up(*apps)
    stage = Stage()
    for line in sys.stdin:
        workload, contender = json.loads(line)
        seconds = stage.turn(workloads.BY_NAME[workload], contenders.BY_NAME[contender])
        print(seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
