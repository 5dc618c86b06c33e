"""Pieces of code that rewrites are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from async_guard.fix.checkout import Source

SYNC_TO_ASYNC = ("asgiref.sync", "sync_to_async")


def awaited(source: Source, original: cst.CSTNode, expression: Any) -> cst.BaseExpression:
    """Return ``await expression`` as it may stand in the place of *original*."""
    if isinstance(source.parent(original), cst.Await):
        found: cst.BaseExpression = expression
        return found  # what was no coroutine was awaited: now it is one
    lpar, rpar = list(expression.lpar), list(expression.rpar)
    if not lpar and _binds_tighter(source, original):
        lpar, rpar = [cst.LeftParen()], [cst.RightParen()]
    return cst.Await(expression.with_changes(lpar=[], rpar=[]), lpar=lpar, rpar=rpar)


def _binds_tighter(source: Source, node: cst.CSTNode) -> bool:
    match source.parent(node):
        case cst.Attribute(value=inner) | cst.Subscript(value=inner) | cst.Call(func=inner):
            return inner is node
    return False


def bare(expression: Any) -> Any:
    """Return an expression without the parentheses around it, if it is on one line."""
    code = cst.Module([]).code_for_node(expression.with_changes(lpar=[], rpar=[]))
    return expression if "\n" in code else expression.with_changes(lpar=[], rpar=[])


def call(function: str | cst.BaseExpression, *args: cst.BaseExpression) -> cst.Call:
    if isinstance(function, str):
        function = cst.Name(function)
    commas = [cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))] * (len(args) - 1)
    return cst.Call(
        function,
        [
            cst.Arg(arg, comma=commas[i] if i < len(commas) else cst.MaybeSentinel.DEFAULT)
            for i, arg in enumerate(args)
        ],
    )


def string(text: str) -> cst.SimpleString:
    return cst.SimpleString(f'"{text}"')


def called_name(node: cst.CSTNode) -> str | None:
    """Return ``get`` for ``Book.objects.get(…)`` and ``render`` for ``render(…)``."""
    if isinstance(node, cst.Call):
        return last_name(node.func)
    return None


def last_name(node: cst.CSTNode | None) -> str | None:
    match node:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name
    return None


def dotted(node: cst.CSTNode) -> list[str] | None:
    """Return the names of ``a.b.c``, None for anything else."""
    match node:
        case cst.Name(value=name):
            return [name]
        case cst.Attribute(value=value, attr=cst.Name(value=name)):
            names = dotted(value)
            return names and [*names, name]
    return None


def everything(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from everything(child)


def has(node: cst.CSTNode, *kinds: type[cst.CSTNode]) -> bool:
    return any(isinstance(each, kinds) for each in everything(node))


def with_string(call: cst.Call, text: str) -> cst.Call:
    """Return *call* with one string more, before the keywords."""
    args = call.args
    at = next((i for i, arg in enumerate(args) if arg.keyword or arg.star == "**"), len(args))
    return with_arg(call, at, cst.Arg(string(text)))


def with_arg(call: cst.Call, at: int, arg: cst.Arg) -> cst.Call:
    """Return *call* with *arg* in the middle or at the end, in its layout."""
    args = list(call.args)
    if not args:
        return call.with_changes(args=[arg])
    between = args[0].comma if len(args) > 1 else _comma(call)
    if at < len(args):
        arg = arg.with_changes(comma=between)
    else:
        last = args[-1]
        arg = arg.with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
        args[-1] = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*args[:at], arg, *args[at:]])


def _comma(call: cst.Call) -> cst.Comma:
    """Return what goes between two arguments where there is one: each has a line, or none."""
    has_comma = isinstance(call.args[0].comma, cst.Comma)  # the trailing one
    has_lines = has_comma and not call.whitespace_before_args.empty
    space = call.whitespace_before_args if has_lines else cst.SimpleWhitespace(" ")
    return cst.Comma(whitespace_after=space)


def imported_as(source: Source, name: str) -> tuple[str, str] | None:
    """Return module and name that *name* was imported from, on module level."""
    for node in source.nodes:
        if not isinstance(node, cst.ImportFrom) or isinstance(node.names, cst.ImportStar):
            continue
        for alias in node.names:
            bound = alias.evaluated_alias or alias.evaluated_name
            if bound == name:
                dots = "." * len(node.relative)
                module = source.code(node.module) if node.module else ""
                return dots + module, alias.evaluated_name
    return None


def module_alias(source: Source, module: str) -> str | None:
    """Return the name that ``import module`` gave it, None where it is not imported."""
    for node in source.module.body:
        for each in everything(node) if isinstance(node, cst.SimpleStatementLine) else ():
            if isinstance(each, cst.Import):
                for alias in each.names:
                    if alias.evaluated_name == module:
                        return alias.evaluated_alias or module
    return None


def is_sync_to_async(source: Source, node: cst.CSTNode) -> bool:
    """Tell ``sync_to_async(…)``, by whatever name the file imports it."""
    name = called_name(node)
    origin = imported_as(source, name) if name else None
    return (origin[1] if origin else name) == "sync_to_async"


def module_of(source: Source, name: str) -> str | None:
    """Return the module that ``import`` has given the name to, anywhere in the file."""
    for node in source.nodes:
        for alias in node.names if isinstance(node, cst.Import) else ():
            if (alias.evaluated_alias or alias.evaluated_name.split(".")[0]) == name:
                return alias.evaluated_name
    return None
