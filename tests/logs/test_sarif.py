"""SARIF, against the schema of OASIS."""

import json
from typing import Any

from async_guard.logs.baseline import Baseline
from async_guard.logs.proposal import Proposal, Replacement
from async_guard.logs.render import sarif
from async_guard.logs.report import make_report
from tests.logs.fetched import check_sarif, sarif_validator
from tests.logs.making import line, read_bytes

CALL = {
    "access": "queryset",
    "owner": "app",
    "rule": "AG105",
    "orm__operation": "get",
    "code__text": "User.objects.get(pk=1)",
    "code__end_column": 38,
}


def rendered(folder, *lines: str, baseline: Baseline | None = None) -> dict[str, Any]:
    result = read_bytes(folder, "\n".join(lines).encode())
    found = json.loads(sarif.render(make_report(result, baseline=baseline)))
    check_sarif(found)
    return found["runs"][0]


def test_schema(tmp_path):
    """
    A log with everything in it that one may have is valid, and the schema is one that refuses.
    """
    lines = [line(1), line(2, **CALL), line(3, fingerprint=None), line(4, rule=None, frames=[])]
    made = make_report(
        read_bytes(tmp_path, "\n".join(lines).encode()), baseline=Baseline({"f": "x"})
    )
    made.patch_note = "No patches."
    made.problems[0].patch = Proposal(
        "--- a", {"a b.py": (Replacement(1, 1, 1, 1, "import a\n"),)}, note="Review it."
    )
    found = sarif.as_dict(made)
    [fix] = next(each for each in found["runs"][0]["results"] if "fixes" in each)["fixes"]

    assert list(sarif_validator().iter_errors(found)) == []
    fix["artifactChanges"][0]["replacements"][0]["deletedRegion"]["startLine"] = 0
    assert len(list(sarif_validator().iter_errors(found))) == 1


def test_results(tmp_path):
    """
    A problem is a result with its place, its stack and a fingerprint that survives deploys.
    """
    [result] = rendered(tmp_path, line(1), line(1, count=4))["results"]

    assert result["ruleId"] == "AG101"
    assert result["level"] == "error"
    assert result["occurrenceCount"] == 5
    assert result["partialFingerprints"] == {"asyncGuard/v1": f"{1:016x}"}
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "users/types.py", "uriBaseId": "SRCROOT"}
    assert place["region"]["startLine"] == 24
    assert (place["region"]["startColumn"], place["region"]["endColumn"]) == (16, 28)
    assert len(result["stacks"][0]["frames"]) == 2


def test_fix(tmp_path):
    """
    Without the code, the advice that replaces the expression is the fix, wherever that stands.
    """
    [result] = rendered(tmp_path, line(1, **CALL))["results"]

    [change] = result["fixes"][0]["artifactChanges"]
    assert change["replacements"] == [
        {
            "deletedRegion": {"startLine": 24, "startColumn": 16, "endLine": 24, "endColumn": 38},
            "insertedContent": {"text": "(await User.objects.aget(pk=1))"},
        }
    ]


def test_no_fix(tmp_path):
    """
    Where other code has to change, there is no replacement.
    """
    lines = [
        line(1),
        line(2, **CALL, code__in_async_def=False),
        line(3, **CALL | {"code__end_column": None}),
    ]

    assert all("fixes" not in result for result in rendered(tmp_path, *lines)["results"])


def test_baseline(tmp_path):
    """
    Results say whether they are new, and those that are gone are told.
    """
    known = Baseline({f"{1:016x}": "one", f"{9:016x}": "nine"})
    results = rendered(tmp_path, line(1), line(2), baseline=known)["results"]

    states = {
        each["partialFingerprints"]["asyncGuard/v1"][-1]: each["baselineState"] for each in results
    }
    assert states == {"1": "unchanged", "2": "new", "9": "absent"}


def test_odd_places(tmp_path, monkeypatch):
    """
    Paths are relative to the repository where they lie in it, and URIs in any case.
    """
    monkeypatch.chdir(tmp_path)
    paths = {
        f"{tmp_path}/a b.py": "a%20b.py",
        "./c.py": "c.py",
        "d\\e.py": "d/e.py",
        "/usr/lib/f.py": "file:///usr/lib/f.py",
        "C:\\g.py": "file:///C:/g.py",
    }
    lines = [line(n, code__file__path=path, count=100 - n) for n, path in enumerate(paths, 1)]
    places = [
        each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for each in rendered(tmp_path, *lines)["results"]
    ]

    assert places == list(paths.values())


def test_losses(tmp_path):
    """
    What was lost is a notification of the run.
    """
    run = rendered(tmp_path, line(1, fingerprint=None), line(2, code__line__number=0, rule=None))

    assert (
        "fingerprint" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    )
