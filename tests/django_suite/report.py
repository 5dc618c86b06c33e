"""What passed, what failed, what cannot apply; and whether the checked-in list says so."""

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.django_suite.record import Results

LIST = Path(__file__).with_name("not_passed.toml")
CANNOT_APPLY, FAILS = "cannot apply", "fails"


@dataclass(frozen=True)
class Entry:
    """Tests that are known not to pass, and why."""

    kind: str
    reason: str
    tests: tuple[str, ...]
    databases: tuple[str, ...] = ("sqlite", "postgres")
    django: tuple[str, ...] = ()

    def holds(self, database: str, django: str) -> bool:
        return database in self.databases and (not self.django or django in self.django)


def read_list(database: str, version: str) -> list[Entry]:
    """Return what the checked-in list has on this database and this Django."""
    entries = tomllib.loads(LIST.read_text("utf-8")).get("because", [])
    found = [
        Entry(**{key: tuple(v) if isinstance(v, list) else v for key, v in each.items()})
        for each in entries
    ]
    feature = ".".join(version.split(".")[:2])
    return [each for each in found if each.holds(database, feature)]


@dataclass
class Report:
    """A run beside the list, and beside Django's own way to run the tests that did not pass."""

    results: Results
    plain: Results
    entries: list[Entry]
    unlisted: list[str] = field(default_factory=list)
    also_plain: list[str] = field(default_factory=list)
    listed: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for test in sorted(self.results.failed):
            entry = next(entries_of(test, self.entries), None)
            if test in self.plain.failed:
                self.also_plain.append(test)
            elif entry is None:
                self.unlisted.append(test)
            else:
                self.listed[test] = entry

    def healed(self) -> list[str]:
        """Return what the list has although it passes; a pattern as soon as all of it does."""
        patterns = [pattern for entry in self.entries for pattern in entry.tests]
        return [
            pattern
            for pattern in patterns
            if fnmatch.filter(self.results.passed, pattern)
            and not fnmatch.filter(self.results.failed, pattern)
        ]

    def lines(self) -> Iterator[str]:
        kinds = [each.kind for each in self.listed.values()]
        yield f"passed        {len(self.results.passed):6}"
        yield f"failed        {len(self.unlisted) + kinds.count(FAILS):6}"
        yield f"cannot apply  {kinds.count(CANNOT_APPLY):6}"
        yield f"skipped       {len(self.results.skipped):6}"
        yield f"fails plainly {len(self.also_plain):6}"
        yield f"calls carried out in the worker: {self.results.totals.get('retried', 0)}"
        yield from self._details()

    def _details(self) -> Iterator[str]:
        for test in self.unlisted:
            yield f"\nFAILED, not in {LIST.name}: {test}\n    {self.results.failed[test]}"
        for test, entry in self.listed.items():
            yield f"\n{entry.kind}: {test}\n    {entry.reason}"
        for test in self.also_plain:
            yield f"\nfails plainly, too: {test}\n    {self.plain.failed[test]}"
        for test in self.healed():
            yield f"\npasses, but is in {LIST.name}: {test}"


def entries_of(test: str, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Return the entries that hold for *test*."""
    return (
        entry
        for entry in entries
        if any(fnmatch.fnmatchcase(test, pattern) for pattern in entry.tests)
    )


def label_of(test: str) -> str:
    """Return what runs *test* again; for a failed ``setUpClass (app.Class)`` the class."""
    fixture = re.fullmatch(r"\w+ \(([\w.]+)\)", test)
    return fixture[1] if fixture else test.removeprefix("unittest.loader._FailedTest.")
