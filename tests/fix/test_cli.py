"""``async-guard fix``: from logs, by way of the console script, to a patch."""

import json
import sys
from dataclasses import replace

import pytest

from async_guard import cli
from tests.fix.checkout import commit, git
from tests.fix.making import hits_of

CODE = "async def f(a):\n    ⟦a.save()⟧\n    ⟦a.delete()⟧\n"
FIXED = {"save": "    await a.asave()", "delete": "    await a.adelete()"}


@pytest.fixture
def checkout(tmp_path):
    """A repository with two hits of its code in a log, the first of them twice, and other lines."""
    code, hits = hits_of(CODE, rule="AG105", hit_id="1", kind="sync_orm", outcome="raised")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text(code)
    commit(tmp_path)
    named = [replace(hit, orm_operation=name) for hit, name in zip(hits, FIXED, strict=True)]
    events = [{"event": "async_guard.hit", **each.to_dict()} for each in named]
    lines = [json.dumps(each) for each in (events[0], *events, {"event": "request_finished"})]
    (tmp_path / "app.log").write_text("\n".join([*lines, ""]))
    return tmp_path


def run(checkout, *arguments, capsys):
    status = cli.main(["fix", str(checkout / "app.log"), "--root", str(checkout), *arguments])
    said = capsys.readouterr()
    added = [line[1:] for line in said.out.splitlines() if line[:2] == "+ "]
    return status, added, said.err.splitlines()


def test_patch(checkout, capsys):
    """
    Each problem of the logs is fixed once, whatever else is in them.
    """
    status, added, err = run(checkout, capsys=capsys)

    assert (status, added) == (0, list(FIXED.values()))
    assert err[-1] == "2 fixed, 0 refused."
    assert git(checkout, "status", "--porcelain", "--untracked-files=no") == ""


def test_one_of_them(checkout, capsys):
    """
    ``--only`` takes one problem, the filters of a report leave out others.
    """
    event = json.loads((checkout / "app.log").read_text().splitlines()[2])

    only = run(checkout, "--only", event["async_guard.fingerprint"], capsys=capsys)
    none = run(checkout, "--kind", "n_plus_one", capsys=capsys)

    assert only[:2] == (0, [FIXED["delete"]])
    assert none == (0, [], ["0 fixed, 0 refused."])


def test_write(checkout, capsys):
    """
    ``--write`` changes the files.
    """
    status, _, _ = run(checkout, "--write", capsys=capsys)

    assert status == 0
    assert (checkout / "app/views.py").read_text() == "\n".join(
        ["async def f(a):", *FIXED.values(), ""]
    )


def test_no_checkout(checkout, capsys):
    """
    A root that is no folder is wrong use.
    """
    assert run(checkout, "--root", "/nope", capsys=capsys) == (
        2,
        [],
        ["async-guard: /nope is no folder: --root names the checkout."],
    )


def test_folder_that_is_no_checkout(checkout, tmp_path_factory, monkeypatch, capsys):
    """
    Without --root, a folder that is no project is not searched; in one it need not be named.
    """
    log = str(checkout / "app.log")

    monkeypatch.chdir(tmp_path_factory.mktemp("home"))
    elsewhere = cli.main(["fix", log]), *capsys.readouterr()
    monkeypatch.chdir(checkout)
    there = cli.main(["fix", log]), capsys.readouterr().err.splitlines()[-1]

    assert elsewhere == (2, "", "async-guard: this folder is no checkout: name it with --root.\n")
    assert there == (0, "2 fixed, 0 refused.")


def test_another_checkout(checkout, tmp_path_factory, capsys):
    """
    A folder that has nothing of the code in the log is not the checkout.
    """
    other = tmp_path_factory.mktemp("other")
    (other / "app").mkdir()
    (other / "app/models.py").write_text("a = 1\n")

    assert run(checkout, "--root", str(other), capsys=capsys) == (
        2,
        [],
        [f"async-guard: None of the code in the log is in {other}: name the checkout with --root."],
    )


def test_without_git(checkout, monkeypatch, capsys):
    """
    Where there is no git, nothing is written.
    """
    monkeypatch.setenv("PATH", "")

    status, _, err = run(checkout, "--write", capsys=capsys)

    assert (status, err) == (
        2,
        ["async-guard: git is not there, and --write needs a clean git tree."],
    )
    assert "asave" not in (checkout / "app/views.py").read_text()


def test_without_libcst(checkout, monkeypatch, capsys):
    """
    Where libcst is missing, one sentence says what to install.
    """
    for name in [each for each in sys.modules if each.startswith("async_guard.fix")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)

    assert run(checkout, capsys=capsys) == (
        2,
        [],
        ["async-guard: fix needs libcst: pip install 'async-guard[fix]'."],
    )
