"""The proof with the example project: its own demo breaks it, and finds it mended."""

import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from async_guard.fix.command import run
from tests.fix.checkout import commit

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    kept = shutil.ignore_patterns("__pycache__", "*.sqlite3")
    shutil.copytree(PROJECT / "example_project", root, ignore=kept)
    commit(root)
    return root


@pytest.fixture
def demo(checkout, monkeypatch):
    """The demo of the copy, which runs the code of the copy."""
    spec = importlib.util.spec_from_file_location("demo_of_the_copy", checkout / "demo.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def answers(demo, folder: Path) -> tuple[dict[str, bool], Path]:
    """Send every operation of the demo; return which were answered right, and the log."""
    folder.mkdir()
    site = demo.Site(folder)
    site.manage("migrate", "--verbosity", "0")
    site.manage("seed")
    with site.served() as api:
        right = {
            step.title: all(demo.is_right(step, each) for each in api.answers(demo.BROKEN, step))
            for step in demo.STEPS
        }
    return right, site.hits


def events(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_example(demo, checkout, tmp_path):
    """
    One patch from one log mends every operation, and nothing is noticed any more.
    """
    before, log = answers(demo, tmp_path / "before")
    out, err = io.StringIO(), io.StringIO()
    status = run(events(log), checkout, write=True, out=out, err=err)
    after, log_after = answers(demo, tmp_path / "after")

    assert not all(before.values())
    assert status == 0
    assert err.getvalue().endswith(" fixed, 0 refused.\n")
    assert [title for title, is_right in after.items() if not is_right] == []
    assert [each for each in events(log_after) if each["event"] == "async_guard.hit"] == []
