"""JSON, for other programs. Keys are only ever added."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from async_guard.hit import package_version
from async_guard.logs.accounts import Accounts
from async_guard.logs.events import dated
from async_guard.logs.report import Problem, Report
from async_guard.logs.tally import Amounts

VERSION = 1


def render(report: Report) -> str:
    """Return *report* as one JSON document."""
    return json.dumps(as_dict(report), indent=2, ensure_ascii=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": VERSION,
        "async_guard_version": package_version(),
        "made_at": dated(report.made_at),
        "count": report.count,
        "problems": [problem_dict(problem) for problem in report.problems],
        "patch_note": report.patch_note or None,
        "input": _input(report.accounts),
    }
    if report.has_baseline:
        new = [problem.fingerprint for problem in report.new]
        found["baseline"] = {"new": new, "gone": dict(sorted(report.gone.items()))}
    return found


def problem_dict(problem: Problem) -> dict[str, Any]:
    tally, hit = problem.tally, problem.hit
    return {
        "fingerprint": problem.fingerprint,
        "count": problem.count,
        "is_new": problem.is_new,
        "outcomes": dict(tally.outcomes.most_common()),
        "first_seen": dated(tally.first_seen),
        "last_seen": dated(tally.last_seen),
        "kind": hit.kind,
        "access": hit.access,
        "relation": hit.relation,
        "subject": problem.subject,
        "owner": hit.owner,
        "owner_package": hit.owner_package,
        "call_site": {
            "path": hit.path,
            "line": hit.line,
            "column": hit.column,
            "end_line": hit.end_line,
            "end_column": hit.end_column,
            "function": hit.function,
            "text": hit.text,
            "digest": hit.digest,
        },
        "message": hit.message,
        "rule": problem.rule,
        "advice": problem.advice,
        "before": problem.before,
        "after": problem.after,
        "docs": problem.docs,
        **{name: dict(names.most_common()) for name, names in tally.names.items()},
        **tally.samples,
        "frames": list(hit.frames),
        "trend": [[dated(when), count] for when, count in tally.trend.points()],
        "duration_ms": _amounts(tally.duration_ms),
        "retry": {"ms": _amounts(tally.retry_ms), "queries": tally.retry_queries},
        "patch": problem.patch.diff or None,
        "patch_note": problem.patch.note or None,
    }


def _amounts(amounts: Amounts) -> dict[str, float] | None:
    if not amounts.number:
        return None
    return {
        "number": amounts.number,
        "mean": round(amounts.mean, 3),
        "max": round(amounts.most, 3),
        "total": round(amounts.total, 3),
    }


def _input(accounts: Accounts) -> dict[str, Any]:
    found = asdict(accounts)
    found["foreign"] = accounts.foreign
    found["first_lost"] = [loss._asdict() for loss in accounts.first_lost]
    found["first_unread"] = accounts.first_unread and accounts.first_unread._asdict()
    return found
