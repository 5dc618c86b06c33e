"""
Plans the patch of a whole log: a result for each fingerprint, one text for each file.

All hits of a fingerprint happened at one expression, so the first that can be located stands for
all; from the others comes only by which GraphQL fields their objects were produced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from async_guard.fix.checkout import Checkout, Source
from async_guard.fix.edit import Edit, edited
from async_guard.fix.locate import locate
from async_guard.fix.patch import Patch, Result
from async_guard.fix.refusal import Changed, Refused
from async_guard.fix.rewrites import rewrite
from async_guard.fix.thread import moved_caller
from async_guard.hit import Hit


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is known of one fingerprint: its edits, or why there are none."""

    hit: Hit
    edits: tuple[Edit, ...] = ()
    refusal: str | None = None


def plan(hits: Iterable[Hit], root: Path) -> Patch:
    """Return what to change in the checkout at *root* so that the hits happen no more."""
    return plan_in(Checkout(root), hits)


def plan_in(checkout: Checkout, hits: Iterable[Hit]) -> Patch:
    """Do the same in a checkout that was read before, for other hits."""
    checkout.start_over()
    planned = [_plan(group, checkout) for group in _by_fingerprint(hits)]
    planned = _without_broken(planned, checkout)
    return Patch(
        root=checkout.root,
        results=tuple(_result(each) for each in planned),
        texts=dict(_texts(planned, checkout)),
    )


def _by_fingerprint(hits: Iterable[Hit]) -> Iterator[list[Hit]]:
    """Group the hits; of each fingerprint as few are kept as differ in what matters here."""
    groups: dict[str, dict[object, Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.fingerprint, {}).setdefault((_place(hit), hit.graphql_parent), hit)
    yield from (list(group.values()) for group in groups.values())


def _plan(group: list[Hit], checkout: Checkout) -> _Planned:
    parents = tuple(sorted({hit.graphql_parent for hit in group if hit.graphql_parent}))
    edits: list[Edit] = []
    refusals: list[Refused] = []
    for hit in _by_place(group):
        try:
            edits += _edits(hit, checkout, parents)
        except Refused as refused:
            refusals.append(refused)
        except Exception as error:  # one odd piece of code, or log, must not stop all the others
            refusals.append(Refused(f"It could not be rewritten: {type(error).__name__}."))
    if edits:  # the log goes on after a deployment: what was before is not there any more
        refusals = [each for each in refusals if not isinstance(each, Changed)]
    return _Planned(group[0], tuple(edits), str(refusals[-1]) if refusals else None)


def _edits(hit: Hit, checkout: Checkout, parents: tuple[str, ...]) -> list[Edit]:
    if not hit.on_stack and not hit.path.endswith(".py"):  # a template's: who rendered it?
        return moved_caller(hit, checkout)
    return rewrite(locate(hit, checkout, parents))


def _by_place(group: list[Hit]) -> list[Hit]:
    """Return one hit for each place: one problem may have been reached on several ways."""
    return list({_place(hit): hit for hit in group}.values())


def _place(hit: Hit) -> object:
    """Return what tells two hits of a fingerprint apart: lines shift, and callers differ."""
    callers = tuple((each.get("function"), each.get("line")) for each in _own(hit.frames))
    return hit.digest, hit.path, hit.line, hit.column, callers


def _own(frames: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (each for each in frames if each.get("in_app"))


# --- the files ---------------------------------------------------------------------------------


def _without_broken(planned: list[_Planned], checkout: Checkout) -> list[_Planned]:
    """Refuse what would leave a file that does not compile, alone or with the others."""
    accepted: list[_Planned] = []
    edits: list[Edit] = []
    for each in planned:
        try:
            _check(each.edits, edits, checkout)
        except Refused as refused:
            accepted.append(replace(each, edits=(), refusal=str(refused)))
        else:
            accepted.append(each)
            edits += each.edits
    return accepted


def _check(new: Iterable[Edit], old: list[Edit], checkout: Checkout) -> None:
    for source, edits in _by_source([*old, *new]).items():
        if source in {edit.source for edit in new}:
            edited(source, edits, checkout)


def _by_source(edits: Iterable[Edit]) -> dict[Source, list[Edit]]:
    found: dict[Source, list[Edit]] = {}
    for edit in edits:
        found.setdefault(edit.source, []).append(edit)
    return found


def _texts(
    planned: Iterable[_Planned], checkout: Checkout
) -> Iterator[tuple[str, tuple[Source, str]]]:
    edits = [edit for each in planned for edit in each.edits]
    for source, its in sorted(_by_source(edits).items(), key=lambda pair: pair[0].name):
        yield source.name, (source, edited(source, its, checkout))


def _result(planned: _Planned) -> Result:
    hit = planned.hit
    return Result(
        fingerprint=hit.fingerprint,
        rule=hit.rule,
        place=f"{hit.path}:{hit.line}",
        text=hit.text,
        files=tuple(dict.fromkeys(edit.source.name for edit in planned.edits)),
        is_fallback=any(edit.is_fallback for edit in planned.edits),
        refusal=planned.refusal,
    )
