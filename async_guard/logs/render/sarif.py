"""SARIF 2.1.0, for annotations in code review."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

from async_guard.advice import DOCS, RULES
from async_guard.hit import Hit, package_version
from async_guard.logs.report import Problem, Report

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
HOME = "https://github.com/async-guard/async-guard"
ROOT = "SRCROOT"
_LEVELS = {"error": "error", "warning": "warning"}
_REPLACES = {"AG105", "AG106", "AG107", "AG109", "AG115"}
"""Rules whose advice stands in place of the very expression that hit, and needs no import."""
NEW, UNCHANGED, ABSENT = "new", "unchanged", "absent"


def render(report: Report) -> str:
    """Return *report* as one SARIF log."""
    return json.dumps(as_dict(report), indent=2, ensure_ascii=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    run = {
        "tool": {"driver": _driver()},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "invocations": [_invocation(report)],
        "results": [_result(problem, report) for problem in report.problems]
        + [_absent(fingerprint, what) for fingerprint, what in sorted(report.gone.items())],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver() -> dict[str, Any]:
    return {
        "name": "async_guard",
        "semanticVersion": package_version(),
        "informationUri": HOME,
        "rules": [
            {
                "id": rule.id,
                "name": "".join(word.capitalize() for word in rule.title.split()),
                "shortDescription": {"text": rule.title},
                "helpUri": f"{DOCS}/{rule.id}.md",
            }
            for rule in sorted(RULES, key=lambda rule: rule.id)
        ],
    }


def _invocation(report: Report) -> dict[str, Any]:
    notifications = [
        {
            "level": "warning",
            "message": {"text": f"{loss.file}, byte {loss.offset}: {loss.reason}"},
        }
        for loss in report.accounts.first_lost
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": notifications}


def _result(problem: Problem, report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {
        **_rule(problem.rule),
        "level": _LEVELS.get(problem.level, "note"),
        "message": {"text": problem.hit.message or problem.advice},
        "partialFingerprints": {"asyncGuard/v1": problem.fingerprint},
        "occurrenceCount": max(1, problem.count),
        "locations": [_location(problem.hit)],
        "properties": {
            "outcomes": dict(problem.tally.outcomes),
            "fields": problem.named("fields"),
            "operations": problem.named("operations"),
        },
    }
    if report.has_baseline:
        found["baselineState"] = NEW if problem.is_new else UNCHANGED
    if stack := _stack(problem.hit):
        found["stacks"] = [stack]
    if fix := _fix(problem):
        found["fixes"] = [fix]
    return found


def _rule(rule: str) -> dict[str, str]:
    return {"ruleId": rule} if rule else {}


def _absent(fingerprint: str, what: str) -> dict[str, Any]:
    return {
        "message": {"text": f"No longer in the log: {what}."},
        "level": "none",
        "kind": "pass",
        "baselineState": ABSENT,
        "partialFingerprints": {"asyncGuard/v1": fingerprint},
    }


def _location(hit: Hit) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if hit.path:
        found["physicalLocation"] = {"artifactLocation": artifact(hit.path)}
        if hit.line > 0:
            found["physicalLocation"]["region"] = _region(hit)
    if hit.function:
        found["logicalLocations"] = [{"fullyQualifiedName": hit.function, "kind": "function"}]
    return found


def _region(hit: Hit) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": hit.line}
    if hit.column is not None and hit.column > 0:
        region["startColumn"] = hit.column
        if hit.end_column is not None and (hit.end_line or hit.line) >= hit.line:
            region["endLine"] = hit.end_line or hit.line
            region["endColumn"] = max(1, hit.end_column)
    if hit.text:
        region["snippet"] = {"text": hit.text}
    return region


def artifact(path: str) -> dict[str, str]:
    """Return where a file is: relative to the repository wherever it lies in it."""
    path = path.replace("\\", "/")
    here = os.getcwd().replace("\\", "/").rstrip("/") + "/"
    path = path.removeprefix(here)
    if path.startswith("/"):
        return {"uri": f"file://{quote(path)}"}
    if len(path) > 2 and path[1:3] == ":/":
        return {"uri": f"file:///{quote(path, safe='/:')}"}
    return {"uri": quote(path.removeprefix("./")), "uriBaseId": ROOT}


def _stack(hit: Hit) -> dict[str, Any] | None:
    frames = [
        {
            "location": {
                "physicalLocation": {
                    "artifactLocation": artifact(frame["file"]),
                    **(
                        {"region": {"startLine": frame["line"]}} if (frame["line"] or 0) > 0 else {}
                    ),
                },
                "message": {"text": frame["function"]},
            }
        }
        for frame in hit.frames
    ]
    return {"frames": frames} if frames else None


def _fix(problem: Problem) -> dict[str, Any] | None:
    """Return the replacement, where the advice is one for the very expression."""
    hit, after = problem.hit, problem.after
    region = _region(hit)
    is_whole = problem.rule in _REPLACES and hit.in_async_def and "…" not in after
    if not (is_whole and after and "endColumn" in region and hit.path):
        return None
    region.pop("snippet", None)
    replacement = {"deletedRegion": region, "insertedContent": {"text": after}}
    return {
        "description": {"text": problem.advice},
        "artifactChanges": [
            {"artifactLocation": artifact(hit.path), "replacements": [replacement]}
        ],
    }
