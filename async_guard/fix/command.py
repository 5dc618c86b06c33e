"""What ``async-guard fix`` does, once a log was read and its events are there."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from async_guard.fix.checkout import Checkout
from async_guard.fix.patch import Patch, Result
from async_guard.fix.planning import plan_in
from async_guard.fix.refusal import Missing, Refused
from async_guard.hit import Hit

OK, UNUSABLE = 0, 2


def run(
    events: Iterable[dict[str, Any]],
    root: Path,
    *,
    only: str | None = None,
    write: bool = False,
    out: TextIO,
    err: TextIO | None = None,
) -> int:
    """
    Print the patch for the hits among *events* as a diff; say on *err* what became of each.

    Args:
        only: the fingerprint to fix, or its first characters.
        write: change the files, too.

    Returns:
        The exit status: 2 where *only* is not in the log, nothing of the log is in the checkout,
        or the files cannot be written.
    """
    err = err or sys.stderr
    try:
        hits = _wanted(hits_among(events), only)
        checkout = Checkout(root)
        _check_checkout(hits, checkout)
        patch = plan_in(checkout, hits)
        if write:
            patch.write()
    except Refused as refused:
        print(f"async-guard: {refused}", file=err)
        return UNUSABLE
    out.write(patch.diff())
    for line in _said(patch):
        print(line, file=err)
    return OK


def _wanted(hits: Iterable[Hit], only: str | None) -> list[Hit]:
    """Return the hits to fix; of one fingerprint, whose first characters are enough."""
    if only is None:
        return list(hits)
    found = [each for each in hits if each.fingerprint.startswith(only.lower())]
    names = sorted({each.fingerprint for each in found})
    if not names:
        raise Refused(f"No hit in the log has a fingerprint that begins {only!r}.")
    if len(names) > 1:
        raise Refused(f"{len(names)} problems begin {only!r}, as {', '.join(names[:5])}.")
    return found


def _check_checkout(hits: list[Hit], checkout: Checkout) -> None:
    """Refuse a folder that has none of the code in the log: it is another one that is meant."""
    places = {(hit.path, hit.function) for hit in hits} | {
        (str(frame.get("file", "")), str(frame.get("function", "")))
        for hit in hits
        for frame in hit.frames
        if frame.get("in_app")
    }
    if places and not any(_is_in(checkout, path, name) for path, name in places):
        raise Refused(
            f"None of the code in the log is in {checkout.root}: name the checkout with --root."
        )


def _is_in(checkout: Checkout, path: str, function: str) -> bool:
    try:
        checkout.find(path, function)
    except Missing:
        return False
    except Refused:  # it is, for another reason it cannot be changed
        return True
    return True


def hits_among(events: Iterable[dict[str, Any]]) -> Iterator[Hit]:
    """Yield what has the keys of a hit, with the right types; a summary has not."""
    for event in events:
        is_hit = "async_guard.hit_id" in event and "async_guard.fingerprint" in event
        frames = event.get("async_guard.frames", [])
        if is_hit and isinstance(frames, list) and all(isinstance(e, dict) for e in frames):
            hit = Hit.from_dict(event)
            if _is_sound(hit):
                yield hit


def _is_sound(hit: Hit) -> bool:
    texts = (hit.fingerprint, hit.path, hit.function, hit.text, hit.rule, hit.kind, hit.access)
    numbers = (hit.line, hit.column, hit.end_line, hit.end_column)
    names = (hit.graphql_parent, hit.graphql_field, hit.graphql_resolver, hit.orm_model)
    return (
        all(isinstance(each, str) for each in texts)
        and all(each is None or isinstance(each, int) for each in numbers)
        and all(each is None or isinstance(each, str) for each in (*names, hit.orm_field))
    )


def _said(patch: Patch) -> Iterator[str]:
    for each in patch.results:
        yield f"{each.fingerprint} {each.rule} {each.place}: {_outcome(each)}"
    yield f"{len(patch.fixed)} fixed, {len(patch.refused)} refused."


def _outcome(result: Result) -> str:
    if not result.files:
        return f"refused. {result.refusal}"
    review = ", one hop to a thread for each access: review it" if result.is_fallback else ""
    rest = f" But not everywhere: {result.refusal}" if result.refusal else ""
    return f"fixed in {', '.join(result.files)}{review}.{rest}"
