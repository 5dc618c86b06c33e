"""Adds an import where a sorter would put it, and takes one away that nothing uses any more."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

import libcst as cst

from async_guard.fix.checkout import Source
from async_guard.fix.scope import enclosing_class

IsOwn = Callable[[str], bool]
_EMPTY = cst.EmptyLine(indent=False)


def with_import(module: cst.Module, wanted: tuple[str, str | None], is_own: IsOwn) -> cst.Module:
    """Return *module* with ``import module`` or ``from module import name`` at its top."""
    if _has(module, wanted):
        return module
    name, item = wanted
    for index in _block(module):
        line = module.body[index]
        found = _import(line)
        if item and isinstance(found, cst.ImportFrom) and _module(found) == name:
            if isinstance(found.names, cst.ImportStar):
                continue
            assert isinstance(line, cst.SimpleStatementLine)
            changed = line.with_changes(body=[_with_item(found, item)])
            return module.with_changes(body=_replaced(module.body, index, changed))
    return _with_line(module, wanted, is_own)


def alias_of(module: cst.Module, wanted: tuple[str, str | None]) -> str | None:
    """Return the other name that the file imports it by, where it has no name besides."""
    name, item = wanted
    if item is None or _has(module, wanted):
        return None
    for index in _block(module):
        found = _import(module.body[index])
        if isinstance(found, cst.ImportFrom) and _module(found) == name:
            for alias in found.names if not isinstance(found.names, cst.ImportStar) else ():
                if alias.evaluated_name == item:
                    return alias.evaluated_alias
    return None


def is_taken(source: Source, wanted: tuple[str, str | None]) -> bool:
    """Tell whether the file has the name of *wanted* for something else, which would hide it."""
    _, item = wanted
    return item is not None and any(_binds_another(source, each, wanted) for each in source.nodes)


def _binds_another(source: Source, node: cst.CSTNode, wanted: tuple[str, str | None]) -> bool:
    module, item = wanted
    match node:
        case cst.FunctionDef(name=cst.Name(value=name)) | cst.ClassDef(name=cst.Name(value=name)):
            return name == item and enclosing_class(source, node) is None
        case cst.Param(name=cst.Name(value=name)):
            return name == item
        case cst.ImportFrom(names=[*names]):
            here = _module(node)
            return any(
                (each.evaluated_alias or each.evaluated_name) == item
                and (here, each.evaluated_name) != (module, item)
                for each in names
            )
    return False


def renamed(module: cst.Module, name: str, alias: str) -> cst.Module:
    """Return *module* with what edits have written by its name under the file's own name."""
    changed = module.visit(_Renamed(name, alias))
    assert isinstance(changed, cst.Module)
    return changed


class _Renamed(cst.CSTTransformer):
    def __init__(self, name: str, alias: str) -> None:
        super().__init__()
        self._name, self._alias = name, alias

    def visit_ImportAlias(self, node: cst.ImportAlias) -> bool:
        return False

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        if isinstance(updated_node.func, cst.Name) and updated_node.func.value == self._name:
            return updated_node.with_changes(func=updated_node.func.with_changes(value=self._alias))
        return updated_node


def _has(module: cst.Module, wanted: tuple[str, str | None]) -> bool:
    name, item = wanted
    for index in _block(module):
        found = _import(module.body[index])
        if isinstance(found, cst.ImportFrom) and item and _module(found) == name:
            if isinstance(found.names, cst.ImportStar):
                continue
            if any(alias.evaluated_name == item and alias.asname is None for alias in found.names):
                return True
        if (
            isinstance(found, cst.Import)
            and item is None
            and any(each.evaluated_name == name and each.asname is None for each in found.names)
        ):
            return True
    return False


def _block(module: cst.Module) -> range:
    """Return where the imports at the top are: one further down may come too late."""
    are_imports = [_import(line) is not None for line in module.body]
    if True not in are_imports:
        return range(0)
    start = are_imports.index(True)
    length = next((i for i, each in enumerate(are_imports[start:]) if not each), len(are_imports))
    return range(start, min(start + length, len(are_imports)))


def _import(line: cst.CSTNode) -> cst.Import | cst.ImportFrom | None:
    if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
        statement = line.body[0]
        if isinstance(statement, cst.Import | cst.ImportFrom):
            return statement
    return None


def _module(statement: cst.ImportFrom) -> str:
    dots = "." * len(statement.relative)
    return dots + (cst.Module([]).code_for_node(statement.module) if statement.module else "")


def _replaced(body: Sequence[cst.CSTNode], index: int, line: cst.CSTNode) -> list[cst.CSTNode]:
    return [*body[:index], line, *body[index + 1 :]]


def _with_item(statement: cst.ImportFrom, item: str) -> cst.ImportFrom:
    """Insert the name where it sorts, with the commas and lines that the others have."""
    assert not isinstance(statement.names, cst.ImportStar)
    names = list(statement.names)
    at = next(
        (i for i, each in enumerate(names) if _order(each.evaluated_name) > _order(item)),
        len(names),
    )
    between = next((each.comma for each in names[:-1]), cst.Comma(cst.SimpleWhitespace(""), _SPACE))
    added = cst.ImportAlias(cst.Name(item), comma=between)
    if at == len(names):
        last = names[-1]
        added = added.with_changes(comma=last.comma)
        names[-1] = last.with_changes(comma=between)
    return statement.with_changes(names=[*names[:at], added, *names[at:]])


_SPACE = cst.SimpleWhitespace(" ")


def _order(name: str) -> tuple[int, str, str]:
    """Return what sorters sort by: constants, classes, the rest; each by name."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name.lower(), name


# --- a line of its own -------------------------------------------------------------------------


def _with_line(module: cst.Module, wanted: tuple[str, str | None], is_own: IsOwn) -> cst.Module:
    body = list(module.body)
    key = _key(wanted[0], wanted[1] is not None, is_own)
    keys = {
        index: found
        for index in _block(module)
        if (found := _key_of(body[index], is_own)) is not None
    }
    before = [index for index, other in keys.items() if other <= key]
    text = f"from {wanted[0]} import {wanted[1]}" if wanted[1] else f"import {wanted[0]}"
    line = cst.SimpleStatementLine([_parsed(text)])
    if before:
        return _after(module, body, max(before), line, keys, key)
    if keys:
        return _first(module, body, min(keys), line, keys, key)
    return _alone(module, body, line)


def _parsed(text: str) -> cst.BaseSmallStatement:
    statement = cst.parse_statement(text)
    assert isinstance(statement, cst.SimpleStatementLine)
    return statement.body[0]


def _key(module: str, is_from: bool, is_own: IsOwn) -> tuple[int, int, str]:
    """Return what sorters sort by: section, form, name."""
    top = module.split(".")[0]
    if module == "__future__":
        section = 0
    elif module.startswith("."):
        section = 4
    elif top in sys.stdlib_module_names:
        section = 1
    else:
        section = 3 if is_own(module) else 2
    return section, int(is_from), module.lower()


def _key_of(line: cst.CSTNode, is_own: IsOwn) -> tuple[int, int, str] | None:
    found = _import(line)
    if isinstance(found, cst.ImportFrom):
        return _key(_module(found), True, is_own)
    if isinstance(found, cst.Import):
        return _key(found.names[0].evaluated_name, False, is_own)
    return None


Keys = dict[int, tuple[int, int, str]]


def _after(
    module: cst.Module,
    body: list[cst.SimpleStatementLine | cst.BaseCompoundStatement],
    index: int,
    line: cst.SimpleStatementLine,
    keys: Keys,
    key: tuple[int, int, str],
) -> cst.Module:
    if keys[index][0] != key[0]:  # the first of its section
        line = line.with_changes(leading_lines=[_EMPTY])
        following = keys.get(index + 1)
        if following is not None and following[0] == key[0]:
            body[index + 1] = _closer(body[index + 1])
    return module.with_changes(body=[*body[: index + 1], line, *body[index + 1 :]])


def _closer(line: cst.SimpleStatementLine | cst.BaseCompoundStatement) -> cst.SimpleStatementLine:
    assert isinstance(line, cst.SimpleStatementLine)
    lines = list(line.leading_lines)
    if lines and lines[0].comment is None:
        del lines[0]
    return line.with_changes(leading_lines=lines)


def _first(
    module: cst.Module,
    body: list[cst.SimpleStatementLine | cst.BaseCompoundStatement],
    index: int,
    line: cst.SimpleStatementLine,
    keys: Keys,
    key: tuple[int, int, str],
) -> cst.Module:
    next_line = body[index]
    assert isinstance(next_line, cst.SimpleStatementLine)
    blank = [each for each in next_line.leading_lines if each.comment is None]
    line = line.with_changes(leading_lines=blank)
    rest = [each for each in next_line.leading_lines if each.comment is not None]
    if keys[index][0] != key[0]:
        rest = [_EMPTY, *rest]
    body[index] = next_line.with_changes(leading_lines=rest)
    return module.with_changes(body=[*body[:index], line, *body[index:]])


def _alone(
    module: cst.Module,
    body: list[cst.SimpleStatementLine | cst.BaseCompoundStatement],
    line: cst.SimpleStatementLine,
) -> cst.Module:
    at = 1 if module.get_docstring() is not None else 0
    if at:
        line = line.with_changes(leading_lines=[_EMPTY])
    if body[at:] and not any(each.comment is None for each in body[at].leading_lines[:1]):
        body[at] = body[at].with_changes(leading_lines=[_EMPTY, *body[at].leading_lines])
    return module.with_changes(body=[*body[:at], line, *body[at:]])


# --- what nothing uses any more ----------------------------------------------------------------


def without_unused(module: cst.Module, name: str) -> cst.Module:
    """Return *module* without the import of *name*, unless it occurs anywhere, if in a comment."""
    rest = [line for line in module.body if _import(line) is None]
    if re.search(rf"(?<!\.)\b{re.escape(name)}\b", module.with_changes(body=rest).code):
        return module
    body: list[cst.CSTNode] = []
    left: Sequence[cst.EmptyLine] = ()
    for line in module.body:
        found = _import(line)
        kept = line if found is None else _without(line, found, name)
        if kept is None:
            left = line.leading_lines
        else:
            body.append(kept.with_changes(leading_lines=_joined(left, kept.leading_lines)))
            left = ()
    return module.with_changes(body=body)


def _joined(left: Sequence[cst.EmptyLine], own: Sequence[cst.EmptyLine]) -> Sequence[cst.EmptyLine]:
    """Return the lines above a statement, with those of the one that stood before it."""
    return own if own and own[0].comment is None else [*left, *own]


def _without(
    line: cst.CSTNode, statement: cst.Import | cst.ImportFrom, name: str
) -> cst.SimpleStatementLine | None:
    assert isinstance(line, cst.SimpleStatementLine)
    if isinstance(statement.names, cst.ImportStar):
        return line
    kept = [each for each in statement.names if _bound(each) != name]
    if len(kept) == len(statement.names):
        return line
    if not kept:
        return None
    kept[-1] = kept[-1].with_changes(comma=statement.names[-1].comma)
    return line.with_changes(body=[statement.with_changes(names=kept)])


def _bound(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or alias.evaluated_name
