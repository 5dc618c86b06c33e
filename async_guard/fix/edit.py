"""
Changes to a file, collected first and made at once.

A change belongs to a node and gets that node with the changes below it already made, so changes in
one expression, one function and one file do not get into each other's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import libcst as cst

from async_guard.fix.checkout import Checkout, Source
from async_guard.fix.imports import alias_of, is_taken, renamed, with_import, without_unused
from async_guard.fix.refusal import Refused

REPLACED = ("replaced",)
Import = tuple[str, str | None]
"""Module and name; None: the module itself."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one node."""

    source: Source
    node: cst.CSTNode
    change: Callable[[Any], Any]
    """From the node to what takes its place."""
    key: tuple[str, ...] = REPLACED
    """Two edits of one node with the same key are the same edit."""
    imports: tuple[Import, ...] = ()
    drops: tuple[str, ...] = ()
    """Names whose import may be unused now."""
    is_fallback: bool = False
    """Right, but not what one would write with more knowledge: somebody should look at it."""


def edited(source: Source, edits: Iterable[Edit], checkout: Checkout) -> str:
    """Return the text of the file with all changes made."""
    edits = list(edits)
    try:
        module = source.module.visit(_Changes(edits))
        assert isinstance(module, cst.Module)
        for wanted in sorted({each for edit in edits for each in edit.imports}, key=str):
            if (alias := alias_of(source.module, wanted)) is not None:
                module = renamed(module, str(wanted[1]), alias)
            elif is_taken(source, wanted):
                raise Refused(f"{source.name} means something else by {wanted[1]}.")
            else:
                module = with_import(module, wanted, lambda name: _is_own(name, source, checkout))
        for name in sorted({name for edit in edits for name in edit.drops}):
            module = without_unused(module, name)
        text = module.code
    except (cst.CSTValidationError, TypeError, AttributeError) as error:
        raise Refused(f"{source.name} would not be Python any more.") from error
    if not source.compiles(text):
        raise Refused(f"{source.name} would not compile any more.")
    return text


def _is_own(module: str, source: Source, checkout: Checkout) -> bool:
    """Tell whether a module is the project's: it lies above the file that imports it."""
    top = module.split(".")[0]
    folders = [each for each in source.path.parents if each.is_relative_to(checkout.root)]
    return any((each / top).is_dir() or (each / f"{top}.py").is_file() for each in folders)


class _Changes(cst.CSTTransformer):
    def __init__(self, edits: Iterable[Edit]) -> None:
        super().__init__()
        self._by_node: dict[cst.CSTNode, dict[tuple[str, ...], Edit]] = {}
        self._on_the_way: set[cst.CSTNode] = set()
        for edit in edits:
            self._by_node.setdefault(edit.node, {}).setdefault(edit.key, edit)
            self._on_the_way.update(parent for parent, _ in edit.source.ancestors(edit.node))

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node in self._on_the_way  # the rest of the file stays as it is

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        node = super().on_leave(original_node, updated_node)
        for edit in self._by_node.get(original_node, {}).values():
            node = edit.change(node)
        return node
