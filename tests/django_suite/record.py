"""Runs Django's ``runtests.py`` in a process of its own and reads what it wrote down."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BEGAN, PASSED, SKIPPED, FAILED, SUMMARY = "began", "passed", "skipped", "failed", "summary"
GUARD = "async_guard"
"""Fails in place of a test when an error of its own is logged."""
PORTION = 20
"""So many test modules share a process: one that dies costs little."""
MOST_DEATHS = 10


@dataclass
class Results:
    """How tests ended, by their ids."""

    passed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """With the last line of the error."""
    totals: dict[str, int] = field(default_factory=dict)
    """What async_guard counted, by outcome."""

    def add(self, records: list[dict[str, Any]]) -> None:
        began = None
        for each in records:
            test, outcome, error = each.get("test"), each["outcome"], each.get("error", "")
            if outcome == SUMMARY:
                for name, count in each["totals"].items():
                    self.totals[name] = self.totals.get(name, 0) + count
            elif outcome == BEGAN:
                began = test
                continue
            elif outcome == PASSED:
                self.passed.add(test)
            elif outcome == SKIPPED:
                self.skipped[test] = error
            else:
                self._fail(test, error)
            if test == began:
                began = None
        if began is not None and began not in self.failed:
            self._fail(began, "The process ended: the test hangs or crashes.")

    def _fail(self, test: str, error: str) -> None:
        self.failed.setdefault(test, error)
        self.passed.discard(test)

    def __str__(self) -> str:
        return f"{len(self.passed)} passed, {len(self.failed)} failed"

    @property
    def ended(self) -> set[str]:
        return {*self.passed, *self.skipped, *self.failed}


@dataclass(frozen=True)
class Suite:
    """Django's tests in a folder, on a database."""

    tests: Path
    database: str
    log: Path

    def run(self, labels: list[str], *, plain: bool) -> Results:
        """
        Run the tests of *labels*, some test modules in a process.

        Args:
            plain: without an event loop, as Django does.
        """
        results = Results()
        for start in range(0, len(labels), PORTION):
            portion = labels[start : start + PORTION]
            since = time.monotonic()
            self._run_portion(portion, results, plain)
            took = time.monotonic() - since
            print(f"{took:5.0f} s  {results}  {portion[0]} … {portion[-1]}", flush=True)
        return results

    def _run_portion(self, labels: list[str], results: Results, plain: bool) -> None:
        """A process that dies is begun anew with the tests that are left."""
        for _ in range(MOST_DEATHS):
            records = self._run_process(labels, results.ended, plain)
            results.add(records)
            if records[-1]["outcome"] == SUMMARY:
                return
        raise RuntimeError(f"The tests of {labels} never came to their end: see {self.log}.")

    def _run_process(
        self, labels: list[str], leave_out: set[str], plain: bool
    ) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            left_out, records = Path(folder, "left_out.json"), Path(folder, "records.jsonl")
            left_out.write_text(json.dumps(sorted(leave_out)), "utf-8")
            environment = {
                **os.environ,
                "DJANGO_SUITE_DATABASE": self.database,
                "DJANGO_SUITE_LEFT_OUT": str(left_out),
                "DJANGO_SUITE_PLAIN": "1" if plain else "",
                "DJANGO_SUITE_RECORDS": str(records),
                "DJANGO_SUITE_RUN": str(os.getpid()),
                "PYTHONPATH": str(ROOT),
            }
            options = ["--settings=tests.django_suite.settings", "--parallel=1", "--noinput"]
            with self.log.open("a") as log:
                ended = subprocess.run(
                    [sys.executable, "runtests.py", *options, *labels],
                    cwd=self.tests,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if not records.exists():
                raise RuntimeError(f"runtests.py ended with {ended.returncode}: see {self.log}.")
            return [json.loads(line) for line in records.read_text("utf-8").splitlines()]
