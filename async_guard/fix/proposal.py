"""The patch of one problem at a time, for reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from async_guard.fix.checkout import Checkout
from async_guard.fix.command import hits_among
from async_guard.fix.patch import Patch, lines_of
from async_guard.fix.planning import plan_in
from async_guard.logs.proposal import Proposal, Replacement
from async_guard.logs.tally import Tally


class Proposals:
    """Makes the patch of each problem that it is asked for; files are read once."""

    def __init__(self, root: Path) -> None:
        self._checkout = Checkout(root)

    def __call__(self, tally: Tally) -> Proposal:
        """Return what ``fix --only`` would do about the problem, or why nothing."""
        hits = list(hits_among(tally.ways))
        if not hits:
            return Proposal(note="The log has no hit of it in full.", is_advised=False)
        patch = plan_in(self._checkout, hits)
        return Proposal(
            diff=patch.diff(),
            replacements=_replacements(patch),
            note=_note(patch),
            is_advised=False,
        )


def _note(patch: Patch) -> str:
    notes = []
    for result in patch.results:
        if result.is_fallback:
            notes.append("It costs one hop to a thread for each access: review it.")
        if result.refusal:
            only_there = "But not everywhere: " if result.files else ""
            notes.append(f"{only_there}{result.refusal}")
    if not notes and not patch.diff():
        return "The code is mended already."
    return " ".join(notes)


def _replacements(patch: Patch) -> dict[str, tuple[Replacement, ...]]:
    return {
        name: tuple(replacements(source.module_code, text))
        for name, (source, text) in patch.texts.items()
        if source.module_code != text
    }


def replacements(old: str, new: str) -> Iterator[Replacement]:
    """Yield what turns *old* into *new*: whole lines, without the end of the last one."""
    before, after = lines_of(old), lines_of(new)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            yield _replacement(before, i, j, "".join(after[k:m]))


def _replacement(lines: list[str], start: int, end: int, text: str) -> Replacement:
    last = lines[end - 1] if end else ""
    content = last.rstrip("\r\n")
    if start < end and text:
        kept = last[len(content) :]  # the line end stays, if there is one on both sides
        if kept and text.endswith(kept):
            return Replacement(start + 1, 1, end, len(content) + 1, text.removesuffix(kept))
    if end < len(lines):
        return Replacement(start + 1, 1, end + 1, 1, text)
    if start < end:  # up to the end of the file, which no next line follows
        return Replacement(start + 1, 1, end, len(last) + 1, text)
    return Replacement(end, len(last) + 1, end, len(last) + 1, text)
