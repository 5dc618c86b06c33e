"""
Where the files of a log lie in the repository.

A log names them relative to the project that wrote it. That may be a folder of the repository, or
lie elsewhere in a container; annotations in a code review need the path from its root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

MARKS = (".git", "manage.py", "pyproject.toml", "setup.py", "setup.cfg")
SKIPPED = {"__pycache__", "node_modules", "site-packages", "dist-packages", "build", "dist"}


def is_checkout(folder: Path) -> bool:
    """Tell whether *folder* looks like a project, or a part of one: not like a home folder."""
    return any((folder / mark).exists() for mark in MARKS) or top_of(folder) is not None


def top_of(folder: Path) -> Path | None:
    """Return the root of the git repository that *folder* lies in."""
    folder = folder.resolve()
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def is_skipped(folder: Path) -> bool:
    """Tell whether a folder has code of others: caches, builds, virtual environments."""
    name = folder.name
    return name in SKIPPED or name.startswith(".") or (folder / "pyvenv.cfg").exists()


class Repository:
    """The checkout at *root*, which may be a folder of the repository."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._top = top_of(self._root) or self._root

    def path_of(self, path: str) -> str:
        """Return a path of the log relative to the repository; as it is where it is not in it."""
        return self._found(path.replace("\\", "/"))

    def path_of_own(self, name: str) -> str:
        """Return a path below the root relative to the repository."""
        return (self._root / name).relative_to(self._top).as_posix()

    @cache  # noqa: B019  one for each report
    def _found(self, path: str) -> str:
        direct = self._root / path
        if direct.is_file():
            resolved = direct.resolve()
            inside = resolved if resolved.is_relative_to(self._top) else direct
            if inside.is_relative_to(self._top):
                return inside.relative_to(self._top).as_posix()
            return path
        ending = self._ending_like(path)
        return ending.relative_to(self._top).as_posix() if ending else path

    def _ending_like(self, path: str) -> Path | None:
        """Return the only file below the root whose path ends like *path*."""
        wanted = PurePosixPath(path.lstrip("/")).parts
        if ".." in wanted or not wanted:
            return None
        found = [each for each in self._files.get(wanted[-1], ()) if _ends_like(each.parts, wanted)]
        if not found and path.startswith("/"):
            return self._below(wanted)
        return found[0] if len(found) == 1 else None

    def _below(self, wanted: tuple[str, ...]) -> Path | None:
        """Return ``users/types.py`` for ``/srv/code/users/types.py``."""
        for start in range(1, len(wanted) - 1):
            candidate = self._root.joinpath(*wanted[start:])
            if candidate.is_file():
                return candidate
        return None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self._walk():
            found.setdefault(path.name, []).append(path)
        return found

    def _walk(self) -> Iterator[Path]:
        for folder, below, names in os.walk(self._root):
            below[:] = sorted(each for each in below if not is_skipped(Path(folder, each)))
            yield from (Path(folder, name) for name in names)


def _ends_like(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return parts[-len(wanted) :] == wanted
