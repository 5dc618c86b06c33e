"""The command: its output, its exit status, and what it does to a git tree."""

import hashlib
import importlib
import io
import sys
from dataclasses import replace

import pytest

from async_guard.fix.command import run
from tests.fix.checkout import commit, git
from tests.fix.making import hits_of

CODE = """
async def f(a):
    ⟦a.save()⟧
    return lambda: ⟦a.delete()⟧
"""
KEYS = {"rule": "AG105", "orm_operation": "save", "hit_id": "1"}


@pytest.fixture
def checkout(tmp_path):
    """A repository, and the events of a log of its code."""
    code, hits = hits_of(CODE, **KEYS)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text(code)
    commit(tmp_path)
    return tmp_path, [hit.to_dict() for hit in hits]


def ran(events, root, **options):
    out, err = io.StringIO(), io.StringIO()
    status = run(events, root, out=out, err=err, **options)
    return status, out.getvalue(), err.getvalue().splitlines()


def test_diff(checkout):
    """
    The diff is printed, the files stay; each fingerprint has its sentence.
    """
    root, events = checkout

    status, out, err = ran(events, root)

    assert status == 0
    assert out.splitlines() == [
        "--- a/app/views.py",
        "+++ b/app/views.py",
        "@@ -1,4 +1,4 @@",
        " ",
        " async def f(a):",
        "-    a.save()",
        "+    await a.asave()",
        "     return lambda: a.delete()",
    ]
    assert [line.split(": ", 1)[1] for line in err[:-1]] == [
        "fixed in app/views.py.",
        "refused. It is in a lambda, where await is not allowed.",
    ]
    assert err[-1] == "1 fixed, 1 refused."
    assert git(root, "status", "--porcelain") == ""


def test_write(checkout):
    """
    With --write the files are what the diff says; the same log changes nothing then.
    """
    root, events = checkout

    status, out, _ = ran(events, root, write=True)
    again = ran(events, root, write=True)

    assert status == 0
    assert [line for line in git(root, "diff").splitlines() if line[:2] in ("+ ", "- ")] == [
        line for line in out.splitlines() if line[:2] in ("+ ", "- ")
    ]
    assert again[:2] == (0, "")


def test_changed_tree(checkout):
    """
    Where something is not committed, nothing is written.
    """
    root, events = checkout
    (root / "other.py").write_text("a = 1\n")
    commit(root)
    (root / "other.py").write_text("a = 2\n")

    status, out, err = ran(events, root, write=True)

    assert (status, out) == (2, "")
    assert err == [
        "async-guard: There are changes that are not committed: commit or stash them first."
    ]
    assert "asave" not in (root / "app/views.py").read_text()


def test_no_repository(tmp_path):
    """
    Outside of git nothing is written.
    """
    code, hits = hits_of(CODE, **KEYS)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text(code)

    status, _, err = ran([hit.to_dict() for hit in hits], tmp_path, write=True)

    assert status == 2
    assert err == [f"async-guard: {tmp_path} is not a git tree, and --write needs a clean one."]


def test_untracked_file(checkout):
    """
    A file that git could not give back is not changed; other untracked files do not matter.
    """
    root, events = checkout
    git(root, "rm", "--quiet", "--cached", "app/views.py")
    git(root, "commit", "--quiet", "--message", "without it")

    status, _, err = ran(events, root, write=True)

    assert status == 2
    assert err == [
        "async-guard: app/views.py is not under version control: it could not be given back."
    ]


def test_only(checkout):
    """
    With --only, one fingerprint is looked at; one that is not in the log is an error.
    """
    root, events = checkout
    fingerprint = events[1]["async_guard.fingerprint"]

    assert ran(events, root, only=fingerprint)[2][-1] == "0 fixed, 1 refused."
    assert ran(events, root, only=fingerprint[:9])[2][-1] == "0 fixed, 1 refused."
    names = ", ".join(each["async_guard.fingerprint"] for each in events)
    several = f"async-guard: 2 problems begin '0', as {names}."
    assert ran(events, root, only="0") == (2, "", [several])
    assert ran(events, root, only="f" * 16) == (
        2,
        "",
        [f"async-guard: No hit in the log has a fingerprint that begins '{'f' * 16}'."],
    )


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"async_guard.fingerprint": "1"},
        {"async_guard.hit_id": "1", "async_guard.fingerprint": 1},
        {"async_guard.hit_id": "1", "async_guard.fingerprint": "1", "code.line.number": "4"},
        {"async_guard.hit_id": "1", "async_guard.fingerprint": "1", "async_guard.frames": 4},
    ],
)
def test_other_events(event, tmp_path):
    """
    What is no hit, or a damaged one, is not looked at.
    """
    assert ran([event], tmp_path) == (0, "", ["0 fixed, 0 refused."])


# --- where the code is -------------------------------------------------------------------------


def reason(events, root):
    return ran(events[:1], root)[2][0].split("refused. ")[-1]


def test_changed_function(checkout):
    """
    A function that has changed since is not touched.
    """
    root, events = checkout
    path = root / "app/views.py"
    path.write_text(path.read_text().replace("return", "b = 1\n    return"))

    assert reason(events, root) == "app.views.f has changed since the log was written."


def test_moved_function(checkout):
    """
    A function that has only moved is found.
    """
    root, events = checkout
    path = root / "app/views.py"
    path.write_text("# a line\nimport os\n" + path.read_text())

    assert "+    await a.asave()" in ran(events, root)[1]


def test_moved_function_with_the_expression_twice(tmp_path):
    """
    Which of two equal expressions of a moved function it was is not known.
    """
    code, hits = hits_of("async def f(a):\n    ⟦a.save()⟧\n    b(a)\n    a.save()\n", **KEYS)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text("\n\n\n\n\n\n\n" + code)

    assert reason([hits[0].to_dict()], tmp_path) == (
        "app/views.py has moved, and has this expression more than once."
    )


def test_missing_function(checkout):
    """
    A function that is gone is said to be.
    """
    root, events = checkout
    (root / "app/views.py").write_text("a = 1\n")

    assert reason(events, root) == "app.views.f is not in app/views.py any more."


def test_other_folder(checkout):
    """
    A file that lies elsewhere in the checkout is found by the end of its path.
    """
    root, events = checkout
    (root / "src").mkdir()
    (root / "app").rename(root / "src/app")

    assert "+++ b/src/app/views.py" in ran(events, root)[1]


def test_absolute_path(checkout):
    """
    So is one whose path is that of a container.
    """
    root, events = checkout
    events[0]["code.file.path"] = "/srv/code/app/views.py"

    assert "+++ b/app/views.py" in ran(events, root)[1]


@pytest.mark.parametrize("path", ["../models.py", "/etc/passwd", "lib/site.py", "", "a.html"])
def test_foreign_path(path, checkout):
    """
    What is not in the checkout is refused.
    """
    root, events = checkout
    events[0]["code.file.path"] = path

    assert ran(events[:1], root)[1] == ""


def test_two_files(checkout):
    """
    A file that could be two is refused.
    """
    root, events = checkout
    for name in ("one", "two"):
        (root / name / "app").mkdir(parents=True)
        (root / name / "app/views.py").write_text((root / "app/views.py").read_text())
    (root / "app/views.py").unlink()

    assert reason(events, root) == (
        "app/views.py could be any of one/app/views.py, two/app/views.py."
    )


@pytest.mark.parametrize("link", ["app", "app/views.py"])
def test_symbolic_link(tmp_path, link):
    """
    Nothing is changed behind a symbolic link: git would not give it back.
    """
    code, hits = hits_of(CODE, **KEYS)
    (tmp_path / "outside/app").mkdir(parents=True)
    (tmp_path / "outside/app/views.py").write_text(code)
    path = tmp_path / "root" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "outside" / link)
    commit(tmp_path / "root")

    ran([hit.to_dict() for hit in hits], tmp_path / "root", write=True)

    assert (tmp_path / "outside/app/views.py").read_text() == code
    assert reason([hits[0].to_dict()], tmp_path / "root") in (
        "app/views.py is not in this checkout.",
        "app/views.py is behind a symbolic link, through which nothing is changed.",
    )


def test_odd_line_ends(tmp_path):
    """
    A file that could not be written as it was read is left alone.
    """
    code, hits = hits_of(CODE, **KEYS)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_bytes(code.replace("\n", "\r").encode())

    assert reason([hits[0].to_dict()], tmp_path) == (
        "app/views.py could not be written as it was read."
    )


@pytest.mark.parametrize("name", ["latin-1", "cp1252", "utf-8"])
def test_encoding(tmp_path, name):
    """
    A file stays in its encoding, form feeds and odd separators in it as well.
    """
    text = f"# -*- coding: {name} -*-\n\x0c\nasync def f(a):\n    b = 'é\x85'\n    ⟦a.save()⟧\n"
    code, hits = hits_of(text, **KEYS)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_bytes(code.encode(name, "ignore"))
    commit(tmp_path)
    digest = hashlib.sha256(
        code.partition("\x0c\n")[2].encode(name, "ignore").decode(name).encode()
    )
    hit = replace(hits[0], digest=digest.hexdigest()[:16])

    _, _, said = ran([hit.to_dict()], tmp_path, write=True)

    assert said[-1] == "1 fixed, 0 refused."
    changed = code.replace("a.save()", "await a.asave()").encode(name, "ignore")
    assert (tmp_path / "app/views.py").read_bytes() == changed


def test_broken_file(checkout):
    """
    A file that is no Python any more is refused.
    """
    root, events = checkout
    (root / "app/views.py").write_text("def f(:\n")

    assert reason(events, root) == "app/views.py cannot be parsed."


def test_no_columns(checkout):
    """
    Without columns it is not known which expression it was.
    """
    root, events = checkout
    del events[0]["code.column.number"]

    assert reason(events, root).startswith("The log has the line, not the columns")


# --- the package -------------------------------------------------------------------------------


def test_without_libcst(monkeypatch):
    """
    Where libcst is missing, the package says what to install.
    """
    for name in [each for each in sys.modules if each.startswith("async_guard.fix")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)

    with pytest.raises(ImportError, match="async-guard\\[fix\\]"):
        importlib.import_module("async_guard.fix")
