"""What ``fix`` would do, in ``report`` and ``explain``, where the checkout is at hand."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_guard import cli
from async_guard.hit import Hit
from async_guard.logs.filters import Filters
from async_guard.logs.proposal import Proposal
from async_guard.logs.render import html, sarif
from async_guard.logs.report import make_report
from tests.fix.checkout import commit
from tests.fix.making import hits_of
from tests.logs.fetched import check_sarif
from tests.logs.making import line, read_bytes

SAVE = {"rule": "AG105", "orm_operation": "save", "access": "instance_write", "hit_id": "1" * 32}
LIBRARY = {"rule": "AG111", "owner": "dependency", "hit_id": "2" * 32}
CODE = '''"""Views."""

from lib import Token


async def first(a):
    ⟦a.save()⟧  # now
    b = lambda: ⟦a.save()⟧
    return b


async def second(user):
    return ⟦Token.for_user(
        user
    )⟧.access
'''
FIXED = '''"""Views."""

from asgiref.sync import sync_to_async
from lib import Token


async def first(a):
    await a.asave()  # now
    b = lambda: a.save()
    return b


async def second(user):
    return (await sync_to_async(Token.for_user)(
        user
    )).access
'''


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository with a log of its code; the command runs in it."""
    root = tmp_path / "checkout"
    root.mkdir()
    code, hits = hits_of(CODE)
    keys = [SAVE, SAVE, LIBRARY]
    write_log(root.parent / "app.log", [hit_with(*each) for each in zip(hits, keys, strict=True)])
    (root / "app").mkdir()
    (root / "app/views.py").write_text(code)
    commit(root)
    monkeypatch.chdir(root)
    return root


def hit_with(hit: Hit, keys: dict[str, Any]) -> dict[str, Any]:
    return replace(hit, **keys).to_dict()


def write_log(path: Path, events: list[dict[str, Any]]) -> None:
    lines = [json.dumps({"event": "async_guard.hit", **event}) for event in events]
    path.write_text("\n".join([*lines, ""]))


def run(capsys, *arguments: str) -> tuple[int, str]:
    status = cli.main(arguments)
    return status, capsys.readouterr().out


def test_report(checkout, capsys):
    """
    Each problem has the patch that `fix --only` prints for it, or the sentence why there is none.
    """
    _, out = run(capsys, "report", "../app.log", "--format", "json")

    told = [(p["fingerprint"], p["patch"], p["patch_note"]) for p in json.loads(out)["problems"]]
    assert [(patch is None, note) for _, patch, note in told] == [
        (False, None),
        (True, "It is in a lambda, where await is not allowed."),
        (False, None),
    ]
    for fingerprint, patch, _ in told:
        assert run(capsys, "fix", "../app.log", "--only", fingerprint) == (0, patch or "")


def test_explain(checkout, capsys):
    """
    The explanation ends with patch or reason, too, whichever folder it runs in.
    """
    _, out = run(capsys, "report", "../app.log", "--format", "json")
    first, second, _ = (each["fingerprint"] for each in json.loads(out)["problems"])
    os.chdir("/")
    log, root = str(checkout.parent / "app.log"), str(checkout)

    assert (
        "    +    await a.asave()  # now\n" in run(capsys, "explain", first, log, "--root", root)[1]
    )
    assert (
        "No patch: It is in a lambda, where await is not allowed.\n"
        in run(capsys, "explain", second, log, "--root", root)[1]
    )


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_formats(checkout, capsys, format):
    """
    The page and Markdown show it as well.
    """
    _, out = run(capsys, "report", "../app.log", "--format", format)

    assert "from asgiref.sync import sync_to_async" in out
    assert "No patch: It is in a lambda" in out.replace("\\", "")


def test_terminal(checkout, capsys, monkeypatch):
    """
    The table shows no patches, so it makes none.
    """
    monkeypatch.setattr("async_guard.fix.proposal.Proposals.__call__", None)

    assert run(capsys, "report", "../app.log")[0] == 0


def test_filtered(tmp_path):
    """
    For what is filtered out nobody looks at the code; for what is shown, once.
    """
    lines = [line(1, count=3), line(2, count=5, graphql__field="B.b"), line(3, count=1)]
    seen: list[str] = []

    def propose(tally):
        seen.append(tally.fingerprint)
        return Proposal("--- a\n+++ b\n+c\n")

    filters = Filters(min_count=2, field=("UserType.*",))
    result = read_bytes(tmp_path, "\n".join(lines).encode(), filters=filters)
    report = make_report(result, filters, propose=propose)
    made = list(seen)
    html.render(report)
    sarif.render(report)

    assert (made, seen) == ([], [f"{1:016x}"])


def test_no_checkout(checkout, capsys, tmp_path, monkeypatch):
    """
    A folder that is no checkout is not searched; one sentence says so.
    """
    monkeypatch.chdir(tmp_path)

    found = json.loads(run(capsys, "report", "app.log", "--format", "json")[1])

    assert {each["patch"] for each in found["problems"]} == {None}
    assert found["patch_note"] == "No patches: this folder is no checkout. Name it with --root."
    page = run(capsys, "report", "app.log", "--format", "html")[1]
    assert page.count("No patches") == 1


def test_without_libcst(checkout, capsys, monkeypatch):
    """
    Without libcst reports are made all the same, and say what is missing.
    """
    for name in [each for each in sys.modules if each.startswith("async_guard.fix")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)

    status, out = run(capsys, "report", "../app.log", "--format", "json")

    assert status == 0
    assert json.loads(out)["patch_note"] == (
        "No patches: they need libcst (pip install 'async-guard[fix]')."
    )


def test_wrong_root(checkout, capsys):
    """
    A root that is no folder is wrong use.
    """
    assert run(capsys, "report", "../app.log", "--root", "nowhere")[0] == 2


def test_other_code(checkout, capsys):
    """
    Where the code has changed since, there is no patch.
    """
    path = checkout / "app/views.py"
    path.write_text(path.read_text().replace("# now", "# then"))

    found = json.loads(run(capsys, "report", "../app.log", "--format", "json")[1])["problems"]

    assert [each["patch_note"] for each in found[:2]] == [
        "app.views.first has changed since the log was written.",
        "It is in a lambda, where await is not allowed.",
    ]


# --- SARIF -------------------------------------------------------------------------------------


def results(capsys, *more: str) -> list[dict[str, Any]]:
    _, out = run(capsys, "report", "../app.log", "--format", "sarif", *more)
    log = json.loads(out)
    check_sarif(log)
    found: list[dict[str, Any]] = log["runs"][0]["results"]
    return found


def applied(text: str, replacements: list[dict[str, Any]]) -> str:
    """Return the text with the replacements made, as an editor would."""
    starts = [0]
    for each in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(each))
    spans = [
        (
            starts[each["deletedRegion"]["startLine"] - 1]
            + each["deletedRegion"]["startColumn"]
            - 1,
            starts[each["deletedRegion"]["endLine"] - 1] + each["deletedRegion"]["endColumn"] - 1,
            each["insertedContent"]["text"],
        )
        for each in replacements
    ]
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def test_sarif(checkout, capsys):
    """
    A fix has a replacement for each piece that changes, imports as well; together they are the fix.
    """
    first, refused, last = results(capsys)
    [change] = last["fixes"][0]["artifactChanges"]
    text = (checkout / "app/views.py").read_text()

    assert change["artifactLocation"] == {"uri": "app/views.py", "uriBaseId": "SRCROOT"}
    assert change["replacements"][0] == {
        "deletedRegion": {"startLine": 3, "startColumn": 1, "endLine": 3, "endColumn": 1},
        "insertedContent": {"text": "from asgiref.sync import sync_to_async\n"},
    }
    [save] = first["fixes"][0]["artifactChanges"][0]["replacements"]
    assert save == {
        "deletedRegion": {"startLine": 7, "startColumn": 1, "endLine": 7, "endColumn": 20},
        "insertedContent": {"text": "    await a.asave()  # now"},
    }
    assert applied(text, [save, *change["replacements"]]) == FIXED
    assert "fixes" not in refused
    assert refused["properties"]["patch"].startswith("No patch: It is in a lambda")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(
    "code",
    [
        "async def f(a):\n    ⟦a.save()⟧",
        "async def f(a):\n    with transaction.atomic():\n        ⟦a.save()⟧",
        '"""ä€😀"""\nasync def f(a):\n    return "😀", ⟦a.save()⟧',
    ],
)
def test_sarif_of_any_file(code, end, newline, tmp_path, monkeypatch, capsys):
    """
    The replacements are right to the byte, whatever ends the lines and the file.
    """
    code, [hit] = hits_of(code + end)
    (tmp_path / "root/app").mkdir(parents=True)
    path = tmp_path / "root/app/views.py"
    path.write_bytes(code.replace("\n", newline).encode())
    commit(tmp_path / "root")
    write_log(tmp_path / "app.log", [hit_with(hit, SAVE)])
    monkeypatch.chdir(tmp_path / "root")

    [result] = results(capsys)
    cli.main(["fix", "../app.log", "--write"])

    [change] = result["fixes"][0]["artifactChanges"]
    after = applied(code.replace("\n", newline), change["replacements"])
    assert after.encode() == path.read_bytes()


@pytest.mark.parametrize("folder", [".", "backend"])
def test_part_of_a_repository(tmp_path, monkeypatch, capsys, folder):
    """
    Paths are those from the root of the repository, also for a project that is a folder of it.
    """
    code, hits = hits_of(CODE)
    (tmp_path / "top/backend/app").mkdir(parents=True)
    (tmp_path / "top/backend/app/views.py").write_text(code)
    commit(tmp_path / "top")
    frames = [
        {"function": "app.views.first", "file": "app/views.py", "line": 7, "in_app": True},
        {"function": "lib.run", "file": "lib/__init__.py", "line": 1, "in_app": False},
    ]
    event = hit_with(hits[0], SAVE) | {"async_guard.frames": frames}
    write_log(tmp_path / "top/app.log", [event])
    monkeypatch.chdir(tmp_path / "top/backend")

    [result] = results(capsys, "--root", ".." if folder == "." else ".")

    own = {"uri": "backend/app/views.py", "uriBaseId": "SRCROOT"}
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == own
    assert result["fixes"][0]["artifactChanges"][0]["artifactLocation"] == own
    frames = result["stacks"][0]["frames"]
    places = [each["location"]["physicalLocation"]["artifactLocation"] for each in frames]
    assert places == [own, {"uri": "lib/__init__.py"}]


# --- several ways to one problem ---------------------------------------------------------------

CALLED = """def count(a):
    return ⟦a.count()⟧


async def one(a):
    return count(a)


async def two(a):
    return 1 + count(a)
"""


def called_by(hit: Hit, caller: str, line: int) -> dict[str, Any]:
    frames = [
        {"function": name, "file": "app/views.py", "line": number, "in_app": True}
        for name, number in (("app.views.count", 2), (f"app.views.{caller}", line))
    ]
    keys = {"rule": "AG119", "in_async_def": False, "hit_id": f"{line:032x}"}
    return hit_with(hit, keys) | {"async_guard.frames": frames}


def test_all_ways(tmp_path, monkeypatch, capsys):
    """
    All functions of a log that led to one problem are mended, those in the report as well.
    """
    code, [hit] = hits_of(CALLED)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text(code)
    write_log(tmp_path / "app.log", [called_by(hit, "one", 6), called_by(hit, "two", 10)] * 2)
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)

    status, out = run(capsys, "fix", "app.log")

    assert status == 0
    assert "+    return await sync_to_async(count)(a)\n" in out
    assert "+    return 1 + await sync_to_async(count)(a)\n" in out
    [problem] = json.loads(run(capsys, "report", "app.log", "--format", "json")[1])["problems"]
    assert problem["patch"] == out


def test_deployed_since(checkout, capsys):
    """
    Where the log also has hits of an older version of the function, the newer one is mended.
    """
    log = checkout.parent / "app.log"
    event = json.loads(log.read_text().splitlines()[0])
    write_log(log, [event | {"async_guard.code.digest": "0" * 16}, event])

    [problem] = json.loads(run(capsys, "report", str(log), "--format", "json")[1])["problems"]

    assert "+    await a.asave()  # now\n" in problem["patch"]
    assert problem["patch_note"] is None
