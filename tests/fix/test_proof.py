"""
The proof: reproduce, log, fix, run again. The hit is gone, the answer is right, no new hit.

All of the zoo, the failing code of all pages and a corpus of more run in a copy of the tests, each
time in a fresh process. What the answer should be is known from a run in which Django allows it.
"""

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import django
import pytest

from async_guard.fix.patch import Patch
from async_guard.fix.planning import plan
from async_guard.hit import Hit
from tests.fix.checkout import commit, git
from tests.fix.corpus import refused
from tests.fix.table import table
from tests.test_rules import FAILING, PAGES

PROJECT = Path(__file__).parent.parent.parent
TOKENS = {"zoo.library_writes_a_row"}  # an answer that is another one each time
MEANT = {
    "zoo.async_to_sync": "(200, '7')",  # asgiref refuses, whatever Django allows
    "calling.transaction_that_fails": "0",  # allowed, acreate() is not part of it
}
FUNCTIONS = [each for each in vars(refused).values() if inspect.iscoroutinefunction(each)]


@dataclass(frozen=True)
class Run:
    """What came of one run of all cases."""

    answers: dict[str, str]
    hits: dict[str, list[Hit]]

    @property
    def all_hits(self) -> list[Hit]:
        return [hit for hits in self.hits.values() for hit in hits]


@dataclass(frozen=True)
class Proof:
    """All that was done, once for all tests here."""

    root: Path
    before: Run
    allowed: Run
    after: Run
    patch: Patch

    @property
    def hits(self) -> list[Hit]:
        return [*self.before.all_hits, *self.allowed.all_hits]

    def refused_in(self, case: str) -> set[str]:
        of_case = {hit.fingerprint for run in (self.before, self.allowed) for hit in run.hits[case]}
        return of_case & {each.fingerprint for each in self.patch.refused}


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    folder = tmp_path_factory.mktemp("proof")
    root = copy_of_the_tests(folder / "checkout")
    runs = {"before": {}, "allowed": {"DJANGO_ALLOW_ASYNC_UNSAFE": "1"}}
    started = {name: start(root, folder / name, more) for name, more in runs.items()}
    before, allowed = (finished(started[name], folder / name) for name in runs)
    patch = plan([*before.all_hits, *allowed.all_hits], root)
    patch.write()
    after = finished(start(root, folder / "after", {}), folder / "after")
    return Proof(root, before, allowed, after, patch)


def copy_of_the_tests(root: Path) -> Path:
    # those execute schemas without a loop, where a resolver cannot await
    not_here = ("__pycache__", "integrations", "delivery", "test_bystanders.py")
    shutil.copytree(PROJECT / "tests", root / "tests", ignore=shutil.ignore_patterns(*not_here))
    shutil.copy(PROJECT / "pyproject.toml", root)
    for path in (root / "tests/fix").glob("test_*.py"):  # nor those that speak of it
        path.unlink()
    pages = root / "tests/fix/pages"
    pages.mkdir()
    (pages / "__init__.py").touch()
    for rule, blocks in PAGES.items():
        (pages / f"{rule.lower()}.py").write_text(blocks[FAILING].source)
    commit(root)
    return root


def start(root: Path, log: Path, more: dict[str, str]) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = ["-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [sys.executable, *command, "tests/fix/replay.py"],
        cwd=root,
        env={**environment, "REPLAY": str(log), "PYTHONDONTWRITEBYTECODE": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: "subprocess.Popen[str]", log: Path) -> Run:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-5000:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    hits = defaultdict(list)
    for line in lines:
        hits[line["case"]] = [Hit.from_dict(event) for event in line["hits"]]
    return Run({line["case"]: line["answer"] for line in lines}, hits)


# --- the tests ---------------------------------------------------------------------------------


def test_hits_are_gone(proof):
    """
    What was fixed is not hit any more, and nothing else is; what was refused is as it was.
    """
    left = {
        case: [(hit.rule, hit.text) for hit in hits]
        for case, hits in proof.after.hits.items()
        if {hit.fingerprint for hit in hits} - proof.refused_in(case)
    }

    assert left == {}


def test_answers_are_right(proof):
    """
    A case that was fixed answers what it would if Django let it.
    """
    fixed = {case for case in proof.before.answers if not proof.refused_in(case)} - TOKENS

    wrong = {
        case: (proof.after.answers[case], meant)
        for case in fixed
        if proof.after.answers[case] != (meant := MEANT.get(case, proof.allowed.answers[case]))
    }

    assert wrong == {}


def test_every_page(proof):
    """
    Every rule is fixed in the failing code of its page, but transactions that await other things.
    """
    refused = {page.lower(): proof.refused_in(case) for page, case in pages(proof).items()}

    assert len(refused) == len(PAGES)
    assert {page for page, found in refused.items() if found} <= {"ag121", "ag122"}


def pages(proof):
    return {case.split(".")[0]: case for case in proof.before.answers if case.startswith("ag")}


@pytest.mark.parametrize(
    "function", [each for each in FUNCTIONS if each.__doc__], ids=attrgetter("__name__")
)
def test_refusal(function, proof):
    """
    What cannot be fixed is refused for the reason that its docstring gives.
    """
    fingerprints = proof.refused_in(f"refused.{function.__name__}")
    said = {each.refusal for each in proof.patch.refused if each.fingerprint in fingerprints}

    assert said == {function.__doc__.strip()}


def test_nothing_twice(proof):
    """
    The same log on the patched code changes nothing.
    """
    assert plan(proof.hits, proof.root).diff() == ""


def test_diff_is_the_patch(proof):
    """
    The diff is what git sees, so that it can be applied by hand.
    """
    written = git(proof.root, "diff")
    git(proof.root, "stash", "--quiet")
    try:
        subprocess.run(
            ["git", "apply", "-"], cwd=proof.root, input=proof.patch.diff(), text=True, check=True
        )
        assert git(proof.root, "diff") == written
    finally:
        git(proof.root, "checkout", "--quiet", ".")
        git(proof.root, "stash", "pop", "--quiet")


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="others have other lines in their frames")
def test_table(proof):
    """
    The table in the docs is what came out.
    """
    path = PROJECT / "docs" / "fix.md"
    wanted = table(path.read_text("utf-8"), proof.patch)
    if "UPDATE_DOCS" in os.environ:
        path.write_text(wanted, "utf-8")

    assert path.read_text("utf-8") == wanted
