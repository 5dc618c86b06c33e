"""SARIF 2.1.0, for annotations in code review."""

from __future__ import annotations

import ast
import json
import os
from typing import Any
from urllib.parse import quote

from async_guard.advice import DOCS, RULES
from async_guard.hit import Hit, package_version
from async_guard.logs.proposal import Replacement
from async_guard.logs.report import Problem, Report
from async_guard.logs.repository import Repository

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
HOME = "https://github.com/async-guard/async-guard"
ROOT = "SRCROOT"
_LEVELS = {"error": "error", "warning": "warning"}
_REPLACES = {"AG105", "AG115"}
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
    if report.patch_note:
        notifications.append({"level": "note", "message": {"text": report.patch_note}})
    return {"executionSuccessful": True, "toolExecutionNotifications": notifications}


def _result(problem: Problem, report: Report) -> dict[str, Any]:
    files = Files(report.repository)
    found: dict[str, Any] = {
        **_rule(problem.rule),
        "level": _LEVELS.get(problem.level, "note"),
        "message": {"text": problem.hit.message or problem.advice},
        "partialFingerprints": {"asyncGuard/v1": problem.fingerprint},
        "occurrenceCount": max(1, problem.count),
        "locations": [_location(problem.hit, files)],
        "properties": {
            "outcomes": dict(problem.tally.outcomes),
            "fields": problem.named("fields"),
            "operations": problem.named("operations"),
        },
    }
    if report.has_baseline:
        found["baselineState"] = NEW if problem.is_new else UNCHANGED
    if stack := _stack(problem.hit, files):
        found["stacks"] = [stack]
    if fix := _fix(problem, files):
        found["fixes"] = [fix]
    if problem.patch.noted:
        found["properties"]["patch"] = problem.patch.noted
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


class Files:
    """Where files are: relative to the repository wherever they lie in it."""

    def __init__(self, repository: Repository | None) -> None:
        self._repository = repository

    def of_log(self, path: str) -> dict[str, str]:
        """Return where a file lies that the log names, relative to the project that wrote it."""
        found = artifact(self._repository.path_of(path) if self._repository else path)
        return found if "://" in found["uri"] else {**found, "uriBaseId": ROOT}

    def of_checkout(self, name: str) -> dict[str, str]:
        """Return where a file of the checkout lies."""
        path = self._repository.path_of_own(name) if self._repository else name
        return {**artifact(path), "uriBaseId": ROOT}


def artifact(path: str) -> dict[str, str]:
    """Return a path as a URI; below the folder that the command runs in it is relative."""
    path = path.replace("\\", "/")
    here = os.getcwd().replace("\\", "/").rstrip("/") + "/"
    path = path.removeprefix(here)
    if path.startswith("/"):
        return {"uri": f"file://{quote(path)}"}
    if len(path) > 2 and path[1:3] == ":/":
        return {"uri": f"file:///{quote(path, safe='/:')}"}
    return {"uri": quote(path.removeprefix("./"))}


def _location(hit: Hit, files: Files) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if hit.path:
        found["physicalLocation"] = {"artifactLocation": files.of_log(hit.path)}
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


def _stack(hit: Hit, files: Files) -> dict[str, Any] | None:
    frames = [{"location": _frame(frame, files)} for frame in hit.frames]
    return {"frames": frames} if frames else None


def _frame(frame: dict[str, Any], files: Files) -> dict[str, Any]:
    """Return where a frame is; a library is no part of the repository."""
    path = frame["file"]
    place: dict[str, Any] = {
        "artifactLocation": files.of_log(path) if frame["in_app"] else artifact(path)
    }
    if (frame["line"] or 0) > 0:
        place["region"] = {"startLine": frame["line"]}
    return {"physicalLocation": place, "message": {"text": frame["function"]}}


# --- what would mend it --------------------------------------------------------------------------


def _fix(problem: Problem, files: Files) -> dict[str, Any] | None:
    """Return the patch, or the replacement of the very expression where nobody saw the code."""
    patch = problem.patch
    if patch.replacements:
        changes = [
            {
                "artifactLocation": files.of_checkout(name),
                "replacements": [_replacement(each) for each in replacements],
            }
            for name, replacements in patch.replacements.items()
        ]
    else:
        changes = _advised(problem, files) if patch.is_advised else []
    if not changes:
        return None
    return {"description": {"text": problem.advice}, "artifactChanges": changes}


def _replacement(replacement: Replacement) -> dict[str, Any]:
    region = {
        "startLine": replacement.line,
        "startColumn": replacement.column,
        "endLine": replacement.end_line,
        "endColumn": replacement.end_column,
    }
    return {"deletedRegion": region, "insertedContent": {"text": replacement.text}}


def _advised(problem: Problem, files: Files) -> list[dict[str, Any]]:
    """Return the advice as a change, where it is an expression for the one that hit."""
    hit, after = problem.hit, problem.after
    region = _region(hit)
    is_whole = problem.rule in _REPLACES and hit.in_async_def and "…" not in after
    if not (is_whole and "endColumn" in region and hit.path and _is_await(after)):
        return []
    region.pop("snippet", None)
    replacement = {"deletedRegion": region, "insertedContent": {"text": f"({after})"}}
    return [{"artifactLocation": files.of_log(hit.path), "replacements": [replacement]}]


def _is_await(code: str) -> bool:
    try:
        return isinstance(ast.parse(code, mode="eval").body, ast.Await)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
