"""
Makes a list of a generator expression, which may await and loop with ``async for``.

Only where all of it is read at once, by a builtin or by ``join()``. ``any()`` and ``all()`` may
stop in the middle: what a list evaluates more must not be able to do or to raise anything.
"""

from __future__ import annotations

import libcst as cst

from async_guard.fix.checkout import Source
from async_guard.fix.code import everything, imported_as
from async_guard.fix.edit import Edit
from async_guard.fix.refusal import InGenerator
from async_guard.fix.scope import bindings

_READ_ALL = {"sorted", "list", "tuple", "set", "frozenset", "dict", "sum", "max", "min"}
_MAY_STOP = {"any", "all"}
_TAKING = {"join", "extend"}
_HARMLESS = (
    *(cst.Name, cst.Comparison, cst.BooleanOperation, cst.UnaryOperation),
    *(cst.Integer, cst.Float, cst.SimpleString),
)


def as_list(source: Source, generator: cst.GeneratorExp) -> Edit:
    """``sum(film.price for film in films)`` → ``sum([film.price for film in films])``."""
    if not _is_read_at_once(source, generator):
        raise InGenerator(generator)

    def change(updated: cst.GeneratorExp) -> cst.ListComp:
        made = cst.ListComp(updated.elt, updated.for_in)
        if not updated.lpar:
            return made
        return made.with_changes(
            lbracket=cst.LeftSquareBracket(updated.lpar[-1].whitespace_after),
            rbracket=cst.RightSquareBracket(updated.rpar[0].whitespace_before),
        )

    return Edit(source, generator, change, ("list",))


def _is_read_at_once(source: Source, generator: cst.GeneratorExp) -> bool:
    arg = source.parent(generator)
    call = source.parents.get(arg)
    if not isinstance(call, cst.Call) or call.args[0] is not arg:
        return False
    match call.func:
        case cst.Attribute(attr=cst.Name(value=name)):
            return name in _TAKING
        case cst.Name(value=name) as function if _is_builtin(source, function):
            return name in _READ_ALL or (name in _MAY_STOP and _is_harmless(generator))
    return False


def _is_builtin(source: Source, name: cst.Name) -> bool:
    defined = (each for each in source.module.body if isinstance(each, cst.FunctionDef))
    is_own = any(each.name.value == name.value for each in defined)
    return not is_own and not bindings(source, name) and imported_as(source, name.value) is None


def _is_harmless(generator: cst.GeneratorExp) -> bool:
    loop = generator.for_in
    parts = [generator.elt, *(each.test for each in loop.ifs)]
    expressions = (
        each for part in parts for each in everything(part) if isinstance(each, cst.BaseExpression)
    )
    return loop.inner_for_in is None and all(_is_plain(each) for each in expressions)


def _is_plain(node: cst.BaseExpression) -> bool:
    """Tell ``film.price`` from ``film.director.name``, which asks the database, or raises."""
    if isinstance(node, cst.Attribute):
        return isinstance(node.value, cst.Name)
    return isinstance(node, _HARMLESS)
