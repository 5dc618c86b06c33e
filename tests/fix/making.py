"""Makes a checkout and the hits of a log from code in which ``⟦…⟧`` marks the expressions."""

import hashlib
import io
import textwrap
from pathlib import Path
from types import CodeType

from async_guard.fix.patch import Patch
from async_guard.fix.planning import plan
from async_guard.hit import Hit

NO_NAME = {"<locals>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"}


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without its marks, and start and end of what was marked."""
    plain, starts, found = "", list[int](), []
    for character in text:
        if character == "⟦":
            starts.append(len(plain))
        elif character == "⟧":
            found.append((starts.pop(), len(plain)))
        else:
            plain += character
    return plain, found


def hits_of(text: str, path: str = "app/views.py", **keys: object) -> tuple[str, list[Hit]]:
    """Return the code and a hit for each mark in it."""
    code, spans = marked(text)
    return code, [hit_at(code, path, *span, **keys) for span in spans]


def hit_at(code: str, path: str, start: int, end: int, **keys: object) -> Hit:
    line, column = position(code, start)
    end_line, end_column = position(code, end)
    function, digest = scope_at(code, line)
    module = path.removesuffix(".py").replace("/", ".")
    known = {
        "path": path,
        "function": ".".join([module, function]),
        "digest": digest,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "text": code[start:end],
        "fingerprint": f"{start:08x}{end:08x}",
        "in_async_def": True,
    }
    return Hit(**{**known, **keys})


def position(code: str, offset: int) -> tuple[int, int]:
    before = code[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def scope_at(code: str, line: int) -> tuple[str, str]:
    """Return name and digest of the innermost code object on a line, as the guard does."""
    lines = io.StringIO(code if code.endswith("\n") else f"{code}\n").readlines()
    found = []
    for each in code_objects(compile(code, "app", "exec")):
        last = max((number for _, _, number in each.co_lines() if number), default=0)
        if each.co_firstlineno <= line <= last:
            found.append((last - each.co_firstlineno, each, last))
    _, innermost, last = min(found, key=lambda item: item[0])
    source = "".join(lines[innermost.co_firstlineno - 1 : last])
    name = ".".join(part for part in innermost.co_qualname.split(".") if part not in NO_NAME)
    return name, hashlib.sha256(source.encode()).hexdigest()[:16]


def code_objects(code: CodeType):
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from code_objects(constant)


def fixed(root: Path, text: str, path: str = "app/views.py", **keys: object) -> tuple[str, Patch]:
    """Fix all marks in the code; return what the file would be, and the patch."""
    code, hits = hits_of(textwrap.dedent(text).lstrip("\n"), path, **keys)
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(code.encode())
    patch = plan(hits, root)
    return (patch.texts[path][1] if path in patch.texts else code), patch


def refusal(root: Path, text: str, **keys: object) -> str:
    """Return the sentence with which the only mark in the code is refused."""
    _, patch = fixed(root, text, **keys)
    [result] = patch.results
    assert patch.diff() == ""
    return str(result.refusal)
