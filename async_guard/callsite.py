"""
Finds the line of the project's own code that is running now.

Walks raw frames: building a traceback costs ten times more, ``inspect.stack()`` a hundred. What a
frame is depends on its code object only, so that is asked once and remembered.

"Own" is what is not somebody else's: not below ``site-packages`` or ``dist-packages``, not the
standard library, not generated, not in a zip archive, not an editable install of another project.
The walk ends where the call was not made by project code any more but by a framework on behalf
of something with a name of its own: a template, a GraphQL field, a view, an event-loop callback.
A line found further out (the middleware at the bottom of every stack) would be the wrong one.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import inspect
import json
import linecache
import opcode
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from async_guard.expression import core_expression

PROJECT, DEPENDENCY, FRAMEWORK = "app", "dependency", "framework"
FRAMEWORKS = ("django", "graphql", "strawberry", "strawberry_django", "asgiref")
SERVERS = ("uvicorn", "hypercorn", "daphne", "granian", "gunicorn")
MAX_FRAMES = 30
MAX_TEXT = 300
_INSTALLED = ("site-packages", "dist-packages")
_ARCHIVES = (".zip", ".egg", ".whl", ".pyz", ".pex")
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TAKES_THE_LAST = {
    number
    for name, number in opcode.opmap.items()
    if name.startswith("UNPACK_") or (name.startswith("POP_JUMP_") and "_IF_" in name)
}
"""Instructions that ask what the one before them gave: ``a, b = rows``, ``if a and rows:``."""
_STORES = {number for name, number in opcode.opmap.items() if name.startswith("STORE_")}
_OF_A_STRING = "<unknown source>"
"""What Django calls the origin of a template that was made of a string."""
_NO_NAME = {"<locals>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"}


class Edge(enum.Enum):
    """Where a call stops being made by project code."""

    NONE = 0
    TEMPLATE = 1
    FIELD = 2
    VIEW = 3
    LOOP = 4
    SERVER = 5


@dataclass(slots=True, eq=False)
class Code:
    """What is known of a code object. Compared by identity."""

    code: CodeType
    """Kept, so that its ``id`` is not given to another."""
    owner: str | None
    """``app``, ``dependency``, ``framework``; None: the interpreter's, generated, or our own."""
    package: str | None
    edge: Edge
    is_project: bool
    stops: bool
    """The walk ends here: a line of the project's, or an edge."""
    names: tuple[str, str] | None = None
    """Qualified name and path, once they were asked for."""
    reader: Any = None
    """What reads the access from a frame of this code, see ``access.py``."""
    decides: bool = False
    """What it reads may say more than what frames further out do."""
    is_ours: bool = False
    """async_guard's own: no part of what is told."""


@dataclass(frozen=True, slots=True)
class CallSite:
    """A line of code: ``path:line in function``, and what stands there."""

    path: str
    line: int
    function: str
    """Qualified name with its module, without ``<locals>`` and comprehension parts."""
    text: str
    """The expression as written, or the template tag."""
    in_async_def: bool = False
    on_stack: bool = True
    column: int | None = None
    """1-based, in code points; so is the end."""
    end_line: int | None = None
    end_column: int | None = None
    digest: str | None = None
    """16 hex digits over the source of the enclosing function."""


@dataclass(slots=True)
class Stack:
    """The innermost frames, up to the first line of the project or the edge, whichever is first."""

    frames: list[tuple[FrameType, Code]]
    site: FrameType | None
    edge: FrameType | None
    edge_kind: Edge


# --- whose code is it ------------------------------------------------------------------------

_codes: dict[int, Code] = {}
_project_paths: tuple[str, ...] = ()
_library_paths: tuple[str, ...] = ()
_framework_paths: dict[str, str] = {}
_roots: tuple[str, ...] = ()
_stdlib: tuple[str, ...] = ()


def configure(
    *,
    base_dir: str | os.PathLike[str] | None,
    project_paths: Iterable[str] = (),
    library_paths: Iterable[str] = (),
) -> None:
    """Learn which folders are whose. Called at install, because it reads the file system."""
    global _project_paths, _library_paths, _framework_paths, _stdlib, _roots
    base = os.path.abspath(base_dir) if base_dir else os.getcwd()
    paths = sysconfig.get_paths()
    _stdlib = tuple(_folder(paths[key]) for key in ("stdlib", "platstdlib"))
    _framework_paths = dict(_framework_folders())
    _project_paths = tuple(_folder(path) for path in project_paths)
    editable = (path for path in _editable_folders() if not _folder(base).startswith(path))
    _library_paths = (*(_folder(path) for path in library_paths), *editable)
    _roots = tuple(dict.fromkeys((_folder(base), _folder(os.getcwd()))))
    _codes.clear()
    _owner.cache_clear()


def _folder(path: str | os.PathLike[str]) -> str:
    return os.path.join(os.path.abspath(os.fspath(path)), "")


def _framework_folders() -> Iterator[tuple[str, str]]:
    for name in (*FRAMEWORKS, *SERVERS):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec and spec.submodule_search_locations:
            yield name, _folder(next(iter(spec.submodule_search_locations)))


def _editable_folders() -> Iterator[str]:
    """Yield folders installed with ``pip install -e`` (PEP 610, ``direct_url.json``)."""
    for folder in {*sys.path, *site.getsitepackages(), site.getusersitepackages()}:
        if os.path.basename(os.path.normpath(folder or ".")) not in _INSTALLED:
            continue
        for record in Path(folder).glob("*.dist-info/direct_url.json"):
            try:
                entry = json.loads(record.read_text("utf-8"))
                if entry.get("dir_info", {}).get("editable"):
                    yield _folder(unquote(urlsplit(entry["url"]).path))
            except (OSError, ValueError, KeyError, AttributeError):
                continue


def code_of(code: CodeType) -> Code:
    """Return what is known of *code*; it is found out once."""
    known = _codes.get(id(code))
    if known is None:
        if len(_codes) > 50_000:  # code that is generated again and again
            for old in [key for key, each in _codes.items() if each.reader is None]:
                del _codes[old]
        known = _codes[id(code)] = _classify(code)
    return known


def _classify(code: CodeType) -> Code:
    filename = code.co_filename
    owner, package = _owner(filename)
    edge = _edge(filename, code, package)
    is_project = owner == PROJECT
    return Code(
        code,
        owner,
        package,
        edge,
        is_project,
        stops=is_project or edge is not Edge.NONE,
        is_ours=filename.startswith(_OURS),
    )


@lru_cache(10_000)
def _owner(filename: str) -> tuple[str | None, str | None]:
    if not filename or filename.startswith((_OURS, "<")):
        return None, None
    if filename.startswith(_project_paths) and _project_paths:
        return PROJECT, None
    for name, folder in _framework_paths.items():
        if filename.startswith(folder):
            return (FRAMEWORK if name in FRAMEWORKS else DEPENDENCY), name
    if (package := _installed_package(filename)) is not None:
        return DEPENDENCY, package
    if _library_paths and filename.startswith(_library_paths):
        return DEPENDENCY, _package_below(filename, _library_paths)
    if filename.startswith(_stdlib):
        return None, None
    if not os.path.isabs(filename) and not os.path.exists(filename):
        return None, None  # a name that a generator made up
    return PROJECT, None


def _installed_package(filename: str) -> str | None:
    parts = filename.replace("\\", "/").split("/")
    for index in range(len(parts) - 2, -1, -1):
        archive = parts[index].endswith(_ARCHIVES) and not _is_inside("/".join(parts[: index + 1]))
        if parts[index] in _INSTALLED or archive:
            return parts[index + 1].removesuffix(".py")
    return None


def _is_inside(archive: str) -> bool:
    """Tell whether the project itself runs out of this archive."""
    return any(root.startswith(archive) for root in _roots)


def _package_below(filename: str, folders: tuple[str, ...]) -> str:
    folder = next(path for path in folders if filename.startswith(path))
    parts = filename[len(folder) :].split(os.sep)
    below_src = parts[0] in ("src", "lib") and len(parts) > 1
    return parts[1 if below_src else 0].removesuffix(".py")


def _edge(filename: str, code: CodeType, package: str | None) -> Edge:
    path = filename.replace("\\", "/")
    if package == "django":
        if "/django/core/handlers/" in path:
            return Edge.VIEW
        if path.endswith("/django/template/base.py") and code.co_name == "render_annotated":
            return Edge.TEMPLATE
    elif package == "graphql" and "/graphql/execution/" in path:
        return Edge.FIELD
    elif package in SERVERS:
        return Edge.SERVER
    elif filename.startswith(_stdlib) and "/asyncio/" in path:
        return Edge.LOOP
    return Edge.NONE


def known_codes() -> dict[int, Code]:
    """Return what is known by ``id`` of the code object, for where a call would be too slow."""
    return _codes


# --- where is it -----------------------------------------------------------------------------


def read_stack(frame: FrameType | None) -> Stack:
    """Walk outwards from *frame* to the project's line, or to the edge of what it answers for."""
    frames: list[tuple[FrameType, Code]] = []
    codes = _codes
    while frame is not None:
        code = frame.f_code
        known = codes.get(id(code)) or code_of(code)
        if known.stops and not is_looked_through(frame, known):
            if known.is_project:
                return Stack(frames, frame, None, Edge.NONE)
            return Stack(frames, None, frame, known.edge)
        frames.append((frame, known))
        frame = frame.f_back
    return Stack(frames, None, None, Edge.LOOP)


def is_looked_through(frame: FrameType, known: Code) -> bool:
    """
    Tell a template that is in no file of the project's: a form's, or one that a string is made of.

    Who renders it is who wrote the code.
    """
    if known.edge is not Edge.TEMPLATE:
        return False
    name = getattr(getattr(frame.f_locals.get("self"), "origin", None), "name", None)
    return isinstance(name, str) and (
        name == _OF_A_STRING or _owner(name)[0] in (FRAMEWORK, DEPENDENCY)
    )


def positions(code: CodeType, lasti: int) -> tuple[int, int, int, int] | None:
    """Return line, end line, and 0-based UTF-8 columns of the instruction at *lasti*."""
    found = next(islice(code.co_positions(), lasti // 2, None), None)
    if found is None or None in found:
        return None
    line, end_line, column, end_column = found
    assert line is not None and end_line is not None
    assert column is not None and end_column is not None
    return line, end_line, column, end_column


def _evaluating(code: CodeType, lasti: int) -> int:
    """
    Return the instruction whose text tells what is evaluated at *lasti*.

    The text of an unpacking is that of the names; that of a jump is, up to Python 3.11, the
    whole statement, or the first part of its condition.
    """
    raw = code.co_code
    if raw[lasti] not in _TAKES_THE_LAST:
        return lasti
    before = lasti - 2
    while raw[before] == opcode.EXTENDED_ARG:
        before -= 2
    return lasti if raw[before] in _STORES else before


def site_of(frame: FrameType) -> CallSite:
    """Describe the line that *frame* is at."""
    code = frame.f_code
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    line, text = frame.f_lineno, ""
    where = positions(code, _evaluating(code, frame.f_lasti))
    column = end_line = end_column = None
    if where is not None and lines:
        found = core_expression(lines, where)
        text, line, end_line = found.text, found.line, found.end_line
        column, end_column = found.column + 1, found.end_column + 1
    elif 0 < line <= len(lines):
        text = lines[line - 1].strip()
    return CallSite(
        path=project_path(code.co_filename),
        line=line,
        function=function_name(frame.f_globals.get("__name__"), code.co_qualname),
        text=clean(text)[:MAX_TEXT],
        in_async_def=_in_async_def(frame),
        column=column,
        end_line=end_line,
        end_column=end_column,
        digest=_digest(code, lines),
    )


def definition_of(function: Any, *, returns: bool = False) -> CallSite | None:
    """
    Describe where *function* of the project is defined, for a call that it is not part of.

    Args:
        returns: what it returned was evaluated later, so name its ``return`` if it has just one.
    """
    function = inspect.unwrap(function) if callable(function) else None
    code = getattr(function, "__code__", None)
    if code is None or not code_of(code).is_project:
        return None
    lines = linecache.getlines(code.co_filename, function.__globals__)
    line = (returns and _line_of_return(lines, code)) or _line_of_def(lines, code)
    return CallSite(
        path=project_path(code.co_filename),
        line=line,
        function=function_name(function.__module__, code.co_qualname),
        text=_code_on(lines, line),
        in_async_def=bool(code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)),
        on_stack=False,
        digest=_digest(code, lines),
    )


def _code_on(lines: list[str], line: int) -> str:
    """Return what stands on a line, without a comment behind it."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    return clean(text.split("  #", 1)[0].strip())[:MAX_TEXT]


def _line_of_def(lines: list[str], code: CodeType) -> int:
    """Return the line of the ``def`` below the decorators, where ``co_firstlineno`` points."""
    for number in range(code.co_firstlineno, min(code.co_firstlineno + 30, len(lines)) + 1):
        if lines[number - 1].lstrip().startswith(("def ", "async def ", "class ")):
            return number
    return code.co_firstlineno


def definition_of_class(owner: Any) -> CallSite | None:
    """Describe where a class of the project begins, for what it inherits."""
    filename = getattr(sys.modules.get(getattr(owner, "__module__", "")), "__file__", None)
    if filename is None or _owner(filename)[0] != PROJECT:
        return None
    begins = re.compile(rf"\s*class\s+{re.escape(owner.__name__)}\b")
    lines = linecache.getlines(filename)
    line = next((at for at, text in enumerate(lines, 1) if begins.match(text)), 1)
    return CallSite(
        path=project_path(filename),
        line=line,
        function=function_name(owner.__module__, owner.__qualname__),
        text=_code_on(lines, line),
        on_stack=False,
    )


def _line_of_return(lines: list[str], code: CodeType) -> int | None:
    numbers = {line for _, _, line in code.co_lines() if line and line <= len(lines)}
    found = [n for n in numbers if lines[n - 1].lstrip().startswith(("return ", "return("))]
    return found[0] if len(found) == 1 else None


def function_name(module: str | None, qualname: str) -> str:
    """Return ``module.qualname`` as it is on every Python version."""
    name = ".".join(part for part in qualname.split(".") if part not in _NO_NAME)
    return f"{module}.{name}" if module and name else name or module or "?"


def project_path(filename: str) -> str:
    """Return *filename* relative to the project, or to where libraries are installed."""
    path = filename.replace(os.sep, "/")
    for folder in _INSTALLED:
        if f"/{folder}/" in path:
            return clean(path.rsplit(f"/{folder}/", 1)[1])
    for root in (*_roots, *_stdlib):
        if filename.startswith(root):
            return clean(path[len(root) :])
    return clean(path)


def clean(text: str) -> str:
    """Return *text* without lone surrogates, which some JSON encoders refuse."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _in_async_def(frame: FrameType) -> bool:
    flags = frame.f_code.co_flags
    if frame.f_code.co_name in _NO_NAME and frame.f_back is not None:
        flags = frame.f_back.f_code.co_flags  # a comprehension is inlined from Python 3.12 on
    return bool(flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))


def _digest(code: CodeType, lines: list[str]) -> str | None:
    last = max((line for _, _, line in code.co_lines() if line), default=0)
    source = "".join(lines[code.co_firstlineno - 1 : last])
    return hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()[:16] if source else None


def outer_frames(frame: FrameType | None) -> Iterator[tuple[FrameType, Code]]:
    """Yield *frame* and everything that called it."""
    while frame is not None:
        yield frame, code_of(frame.f_code)
        frame = frame.f_back


Walked = tuple[Code, int, str | None]
"""A frame, as cheap as it can be had: what is known of its code, its line, its module."""


def walk(frame: FrameType | None) -> tuple[Walked, ...]:
    """Return at most 30 frames, innermost first, without our own, for ``frame_list``."""
    codes = _codes
    found: list[Walked] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        known = codes.get(id(code)) or code_of(code)
        if not known.is_ours:
            module = None if known.names else frame.f_globals.get("__name__")
            found.append((known, frame.f_lineno, module))
        frame = frame.f_back
    return tuple(found)


def frame_list(frames: Iterable[Walked | dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the event has of each frame; what is that already stays as it is."""
    for each in frames:
        if isinstance(each, dict):
            yield each
            continue
        known, line, module = each
        function, path = known.names or _names_of(known, module)
        yield {"function": function, "file": path, "line": line, "in_app": known.is_project}


def _names_of(known: Code, module: str | None) -> tuple[str, str]:
    code = known.code
    known.names = function_name(module, code.co_qualname), project_path(code.co_filename)
    return known.names


def is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)
