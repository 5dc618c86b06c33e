"""The patch: what was planned as one unified diff, and into the files of a clean git tree."""

from __future__ import annotations

import difflib
import io
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from async_guard.fix.checkout import Source
from async_guard.fix.refusal import Refused


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one fingerprint."""

    fingerprint: str
    rule: str
    place: str
    """``path:line`` of the log."""
    text: str
    files: tuple[str, ...]
    """The files that are changed for it, relative to the checkout."""
    is_fallback: bool
    """It works, but costs a thread for each access: look whether it can be loaded earlier."""
    refusal: str | None
    """One sentence, where it is not fixed, or not on all the ways that lead there."""

    @property
    def is_fixed(self) -> bool:
        return self.refusal is None


@dataclass(frozen=True, slots=True)
class Patch:
    """The results of all fingerprints, and the new texts of the files."""

    root: Path
    results: tuple[Result, ...]
    texts: Mapping[str, tuple[Source, str]]

    @property
    def fixed(self) -> tuple[Result, ...]:
        return tuple(each for each in self.results if each.is_fixed)

    @property
    def refused(self) -> tuple[Result, ...]:
        return tuple(each for each in self.results if not each.is_fixed)

    def diff(self) -> str:
        """Return one unified diff of all files, for ``git apply`` in the checkout."""
        return "".join(line for name in self.texts for line in self._diff_of(name))

    def _diff_of(self, name: str) -> Iterator[str]:
        source, text = self.texts[name]
        old, new = lines_of(source.module_code), lines_of(text)
        for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"

    def write(self) -> None:
        """Change the files; refuse unless git can give back every one of them."""
        if not self.texts:
            return
        if _git(self.root, "status", "--porcelain", "--untracked-files=no"):
            raise Refused("There are changes that are not committed: commit or stash them first.")
        for name in self.texts:
            if not _git(self.root, "ls-files", "--", name):
                raise Refused(f"{name} is not under version control: it could not be given back.")
        for source, text in self.texts.values():
            source.path.write_bytes(text.encode(source.module.encoding))


def lines_of(text: str) -> list[str]:
    """Split at line feeds only: a form feed in a line is no end of it."""
    return io.StringIO(text, newline="\n").readlines()


def _git(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--literal-pathspecs", "-C", str(root), *command],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise Refused("git is not there, and --write needs a clean git tree.") from error
    if done.returncode:
        raise Refused(f"{root} is not a git tree, and --write needs a clean one.")
    return done.stdout.strip()
