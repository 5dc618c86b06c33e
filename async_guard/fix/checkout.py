"""
The code as it is checked out: its files, parsed once.

A log names paths as they were where it was written: relative to that project, or absolute in a
container. So a file is looked up by its path and, where that leads nowhere, by its module.
"""

from __future__ import annotations

import io
import os
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider

from async_guard.fix.refusal import Missing, Refused
from async_guard.logs.repository import is_skipped


class Source:
    """One Python file, with the position and the parent of each of its nodes."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        """Relative to the checkout, with slashes."""
        self.made_async: set[cst.FunctionDef] = set()
        """Sync functions that the patch makes async, so that what is in them may await."""
        self.made_lists: set[cst.GeneratorExp] = set()
        """Generator expressions that it makes lists, which may await as well."""

    @cached_property
    def content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise Refused(f"{self.name} cannot be read: {error.strerror}.") from error

    def __contains__(self, text: str) -> bool:
        try:
            return text.encode() in self.content
        except Refused:
            return False

    @property
    def is_readable(self) -> bool:
        try:
            return bool(self.module)
        except Refused:
            return False

    @cached_property
    def lines(self) -> list[str]:
        """The lines as ``linecache`` gives them, which digests are made of."""
        encoding, _ = tokenize.detect_encoding(io.BytesIO(self.content).readline)
        text = io.TextIOWrapper(io.BytesIO(self.content), encoding).read()
        lines = io.StringIO(text).readlines()
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return lines

    @cached_property
    def module(self) -> cst.Module:
        try:
            module = cst.parse_module(self.content)
        except (cst.ParserSyntaxError, SyntaxError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"{self.name} cannot be parsed.") from error
        if module.code.encode(module.encoding) != self.content:  # ends lines as nobody does
            raise Refused(f"{self.name} could not be written as it was read.")
        return module

    @cached_property
    def module_code(self) -> str:
        """The text as libcst has it: without a byte order mark, with its line ends."""
        return self.module.code

    @cached_property
    def _metadata(self) -> MetadataWrapper:
        return MetadataWrapper(self.module, unsafe_skip_copy=True)

    @cached_property
    def parents(self) -> Mapping[cst.CSTNode, cst.CSTNode]:
        return self._metadata.resolve(ParentNodeProvider)

    @cached_property
    def positions(self) -> Mapping[cst.CSTNode, CodeRange]:
        return self._metadata.resolve(PositionProvider)

    @cached_property
    def nodes(self) -> list[cst.CSTNode]:
        return list(self.parents)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        return self.parents[node]

    def ancestors(self, node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """Yield each parent with the child that leads to *node*, innermost first."""
        while (parent := self.parents.get(node)) is not None:
            yield parent, node
            node = parent

    def below(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield *node* and everything in it."""
        yield node
        for child in node.children:
            yield from self.below(child)

    def first_line(self, node: cst.CSTNode) -> int:
        """Return the line that ``co_firstlineno`` names: that of the first decorator."""
        if isinstance(node, cst.FunctionDef | cst.ClassDef) and node.decorators:
            node = node.decorators[0]
        return self.positions[node].start.line

    def last_line(self, node: cst.CSTNode) -> int:
        return min(self.positions[node].end.line, len(self.lines))

    def code(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def compiles(self, text: str) -> bool:
        """Tell whether *text* is Python: ``await`` where it must not be is none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compile(text, self.name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError):
                return False
        return True


class Checkout:
    """The Python files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._sources: dict[Path, Source] = {}

    def start_over(self) -> None:
        """Forget what a plan has decided, not what was read."""
        for source in self._sources.values():
            source.made_async.clear()
            source.made_lists.clear()

    def source(self, path: Path) -> Source:
        if path not in self._sources:
            name = path.relative_to(self.root).as_posix()
            self._sources[path] = Source(path, name)
        return self._sources[path]

    def find(self, path: str, function: str) -> Source:
        """Return the file that the log calls *path*, which has *function* in it."""
        if not path.endswith(".py"):
            raise Refused(f"{path or 'The place'} is not Python code.")
        direct = self._inside(path)
        if direct is not None and qualname(direct, function, self.root) is not None:
            return self.source(direct)
        found = [each for each in self._ending_like(path) if qualname(each, function, self.root)]
        if len(found) == 1:
            return self.source(found[0])
        if found:
            names = ", ".join(sorted(each.relative_to(self.root).as_posix() for each in found))
            raise Refused(f"{path} could be any of {names}.")
        if direct is not None:
            raise Refused(f"{path} is not the module that {function} was in.")
        raise Missing(f"{path} is not in this checkout.")

    def _inside(self, path: str) -> Path | None:
        written = Path(os.path.normpath(self.root / path))
        if not written.is_relative_to(self.root) or not written.is_file():
            return None
        if written.resolve() != written:
            raise Refused(f"{path} is behind a symbolic link, through which nothing is changed.")
        return written

    def _ending_like(self, path: str) -> list[Path]:
        """Return the files whose path ends like *path*, those with the longest end in common."""
        wanted = PurePosixPath(path).parts
        lengths = {each: _common_end(each.parts, wanted) for each in self.files}
        longest = max(lengths.values(), default=0)
        return [each for each, length in lengths.items() if length == longest > 0]

    @cached_property
    def files(self) -> list[Path]:
        return sorted(self._walk())

    def _walk(self) -> Iterator[Path]:
        for folder, below, names in os.walk(self.root):
            below[:] = [each for each in below if not is_skipped(Path(folder, each))]
            paths = (Path(folder, name) for name in names if name.endswith(".py"))
            yield from (path for path in paths if not path.is_symlink())

    def mentioning(self, text: str) -> Iterator[Source]:
        """Yield the files that *text* occurs in and that can be parsed."""
        for path in self.files:
            source = self.source(path)
            if text in source and source.is_readable:
                yield source


def _common_end(parts: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    length = 0
    while length < min(len(parts), len(wanted)) and parts[-1 - length] == wanted[-1 - length]:
        length += 1
    return length


def module_parts(path: Path, root: Path) -> tuple[str, ...]:
    """Return the names that a module at *path* may be imported by, the longest way."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def qualname(path: Path, function: str, root: Path) -> tuple[str, ...] | None:
    """Return *function* without its module, None if it cannot be in the module at *path*."""
    names, parts = tuple(function.split(".")), module_parts(path, root)
    for length in range(min(len(names) - 1, len(parts)), 0, -1):
        if names[:length] == parts[-length:]:
            return names[length:]
    return names[1:] if names[0] == "__main__" else None
