"""What a report says, before anything is rendered."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from async_guard.advice import RULES, Advice, advise, short
from async_guard.hit import LEVELS, Hit
from async_guard.logs.accounts import Accounts
from async_guard.logs.baseline import Baseline
from async_guard.logs.failures import printable
from async_guard.logs.filters import Filters
from async_guard.logs.proposal import Proposal, Proposer, no_proposal
from async_guard.logs.reading import Result
from async_guard.logs.repository import Repository
from async_guard.logs.tally import Tally

_DID = re.compile(r"\S+ (.+?) while the event loop runs")
_WORST_FIRST = ("error", "warning", "info")


@dataclass
class Problem:
    """One problem, in words."""

    tally: Tally
    is_new: bool = False
    """The baseline does not know it."""
    propose: Proposer = no_proposal
    """Makes its patch, which takes a look at the code."""

    @cached_property
    def patch(self) -> Proposal:
        """What ``fix`` would do about it; made when somebody wants to show it."""
        return self.propose(self.tally)

    @property
    def fingerprint(self) -> str:
        return self.tally.fingerprint

    @property
    def count(self) -> int:
        return self.tally.count

    @property
    def hit(self) -> Hit:
        return self.tally.hit

    @property
    def subject(self) -> str:
        """What was touched, as precisely as the log says."""
        hit = self.hit
        if hit.relation:
            return hit.relation
        if hit.orm_model is None and (said := _DID.match(hit.message)):
            return said[1]
        model = hit.orm_model or hit.access.replace("_", " ")
        return f"{model} ({hit.orm_operation})" if hit.orm_operation else model

    @property
    def place(self) -> str:
        return f"{self.hit.path}:{self.hit.line}" if self.hit.path else "an unknown place"

    @property
    def function(self) -> str:
        return short(self.hit.function)

    @property
    def level(self) -> str:
        """The level of its worst outcome."""
        levels = {LEVELS.get(outcome, "warning") for outcome in self.tally.outcomes}
        return next((level for level in _WORST_FIRST if level in levels), "warning")

    @property
    def outcomes(self) -> str:
        """``raised 12, swallowed 3``; without numbers where there is one."""
        found = self.tally.outcomes.most_common()
        if len(found) == 1:
            return found[0][0]
        return ", ".join(f"{outcome} {count:,}" for outcome, count in found)

    @cached_property
    def _advice(self) -> Advice | None:
        try:
            rule = next((rule for rule in RULES if rule.id == self.hit.rule), None)
            if rule is None:
                return advise(self.hit)
            return Advice(rule.id, rule.sentence(self.hit), self.hit.text, rule.after(self.hit))
        except Exception:  # a rule meets what only a damaged log says
            return None

    @property
    def rule(self) -> str:
        return self.hit.rule or (self._advice.rule if self._advice else "")

    @property
    def rule_title(self) -> str:
        return next((rule.title for rule in RULES if rule.id == self.rule), "")

    @property
    def advice(self) -> str:
        """What to write instead, in one sentence."""
        said = self.hit.advice or (self._advice.sentence if self._advice else "")
        return said or self.hit.message or "No advice."

    @property
    def before(self) -> str:
        return self.hit.text

    @property
    def after(self) -> str:
        return with_arguments(self.before, self._advice.after) if self._advice else ""

    @property
    def docs(self) -> str:
        return self.hit.docs or (self._advice.docs if self._advice else "")

    @property
    def retry_cost(self) -> str:
        """What a retry did to it, in words; empty where none was logged."""
        retries = self.tally.retry_ms
        if not retries.number:
            return ""
        by = ", ".join(self.tally.names["strategies"]) or "retry"
        queries = f", {self.tally.retry_queries:,} queries" if self.tally.retry_queries else ""
        return f"{by}: {retries.mean:.1f} ms on average, {retries.most:.1f} ms at most{queries}"

    def named(self, *kinds: str) -> list[str]:
        """Return the names of these kinds, the most frequent first."""
        return [name for kind in kinds for name, _ in self.tally.names[kind].most_common()]


@dataclass
class Report:
    """Ranked problems, and what became of the input."""

    problems: list[Problem]
    accounts: Accounts
    gone: dict[str, str] = field(default_factory=dict)
    """Of the baseline, what the log no longer has; nothing, where filters left out events."""
    has_baseline: bool = False
    made_at: float = field(default_factory=time.time)
    patch_note: str = ""
    """One sentence: why no problem has a patch."""
    repository: Repository | None = None
    """Where the files lie that the log names; None: nobody knows."""

    @property
    def new(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_new]

    @property
    def count(self) -> int:
        return sum(problem.count for problem in self.problems)


def make_report(
    result: Result,
    filters: Filters = Filters(),  # noqa: B008  frozen
    baseline: Baseline | None = None,
    propose: Proposer = no_proposal,
) -> Report:
    """Rank what was read, and compare it with *baseline*; patches are made when they are shown."""
    tallies = [tally for tally in result.tallies.ranked() if filters.admit_problem(tally)]
    problems = [
        Problem(
            tally,
            is_new=baseline is not None and tally.fingerprint not in baseline.known,
            propose=propose,
        )
        for tally in tallies
    ]
    gone = {}
    if baseline is not None and filters.admit_every_event:
        read = {tally.fingerprint for tally in result.tallies}
        gone = {key: what for key, what in baseline.known.items() if key not in read}
    return Report(problems, result.accounts, gone, baseline is not None)


def with_arguments(before: str, after: str) -> str:
    """Return *after* with the arguments of the call *before* where it leaves them out."""
    if not after.endswith(")(…)"):
        return after
    try:
        call = ast.parse(before, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return after
    if not isinstance(call, ast.Call):
        return after
    function = ast.get_source_segment(before, call.func) or ""
    arguments = before[len(function) :]
    is_the_call = before.startswith(function) and arguments.startswith("(")
    return after.removesuffix("(…)") + arguments if is_the_call and function in after else after


def nothing(report: Report) -> str:
    """Say that there is no problem, or only none that could be read."""
    is_sure = report.accounts.is_whole
    return "No problems." if is_sure else "No problems in what could be read."


def summed_up(accounts: Accounts) -> list[str]:
    """Say in sentences what became of the input."""
    lines = [
        f"{numbered(accounts.lines, 'line')} read in {numbered(accounts.files, 'file')}: "
        f"{accounts.ours:,} ours, {accounts.foreign:,} foreign; "
        f"{numbered(accounts.recovered, 'event')} recovered, {accounts.lost:,} lost."
    ]
    if accounts.cut:
        lines.append(
            f"{numbered(accounts.cut, 'line')} cut too early to tell whether they were ours."
        )
    if accounts.unread and accounts.first_unread:
        first, file = accounts.first_unread, printable(accounts.first_unread.file)
        lines.append(
            f"{numbered(accounts.unread, 'line')} written for people, with the name of an event "
            f"but not its keys (the first: {file}, byte {first.offset}): to have them "
            "counted, set ASYNC_GUARD['LOG_FILE'], or log through structlog's JSONRenderer."
        )
    if accounts.unnamed:
        lines.append(
            f"{numbered(accounts.unnamed, 'hit')} without a fingerprint: the guard had no room "
            "for more (MAX_FINGERPRINTS)."
        )
    if accounts.newer:
        lines.append(
            f"{numbered(accounts.newer, 'event')} of a newer version than this reader: upgrade it."
        )
    if accounts.undated:
        lines.append(f"{numbered(accounts.undated, 'event')} left out: they say no time.")
    if accounts.repeated:
        lines.append(f"{numbered(accounts.repeated, 'hit')} left out: their id was read before.")
    lines += [
        f"lost: {printable(loss.file)}, byte {loss.offset}: {loss.reason}"
        for loss in accounts.first_lost
    ]
    more = accounts.lost + accounts.cut - len(accounts.first_lost)
    return [*lines, f"lost: {more:,} more"] if more > 0 else lines


def compared(report: Report) -> list[str]:
    """Say in sentences how the problems differ from the baseline."""
    if not report.has_baseline:
        return []
    lines = [f"{numbered(len(report.new), 'new problem')} against the baseline."]
    if report.gone:
        lines.append(f"{numbered(len(report.gone), 'problem')} of it no longer in the log:")
        lines += [f"  {key}  {what}" for key, what in sorted(report.gone.items())]
    return lines


def numbered(count: int, what: str) -> str:
    """Return ``1 line``, ``2 lines``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def seen(tally: Tally) -> str:
    """Return ``2026-01-31 12:34 – 13:05`` in UTC."""
    if tally.first_seen is None or tally.last_seen is None:
        return ""
    first = datetime.fromtimestamp(tally.first_seen, UTC)
    last = datetime.fromtimestamp(tally.last_seen, UTC)
    begin = f"{first:%Y-%m-%d %H:%M}"
    if f"{last:%Y-%m-%d %H:%M}" == begin:
        return begin
    same_day = first.date() == last.date()
    return f"{begin} – {last:%H:%M}" if same_day else f"{begin} – {last:%Y-%m-%d %H:%M}"


def matching(problems: Iterable[Problem], fingerprint: str) -> Sequence[Problem]:
    """Return the problems whose fingerprint begins so."""
    wanted = fingerprint.lower()
    return [each for each in problems if each.fingerprint.lower().startswith(wanted)]
