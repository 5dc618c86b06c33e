"""
How a refused access ended: who caught the exception, read from its traceback.

A traceback ends in the outermost frame that the exception has reached. Once nobody handles it any
more, that frame is the one that caught it, and the exception table of its code says with which
``except``. So nothing has to be wrapped around the project's code to know.

See CPython's ``InternalDocs/exception_handling.md`` and https://docs.python.org/3/library/dis.html.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation

from async_guard.callsite import Edge, code_of

RAISED, SWALLOWED, ALLOWED, HANDLED = "raised", "swallowed", "allowed", "handled"
RETRIED, RETRY_FAILED, RETRY_REFUSED = "retried", "retry_failed", "retry_refused"
_SURFACES = {Edge.FIELD, Edge.VIEW, Edge.SERVER}
MOST_KNOWN = 10_000
_RUNNERS = {"run_until_complete", "run"}
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_CHECKS = {"CHECK_EXC_MATCH", "CHECK_EG_MATCH"}
_RERAISE, _RAISE = dis.opmap["RERAISE"], dis.opmap["RAISE_VARARGS"]
_VARIABLES = {"LOAD_FAST", "LOAD_DEREF"}
_LET_THROUGH = "let through"
"""Of a ``with`` block, as a lock or a transaction, that may have caught it or not."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that may catch: ``except X``, a bare ``except``, or a ``with`` block."""

    kind: str
    """``except``, ``bare``, ``with``."""
    names: tuple[dis.Instruction, ...] = ()
    """What puts the exception's type, or the context manager, on the stack."""


_clauses: dict[tuple[int, int], tuple[CodeType, list[Clause]]] = {}
_reraises: dict[int, tuple[CodeType, frozenset[int]]] = {}
_verdicts: dict[tuple[int, int, type], str | None] = {}


def read_outcome(
    error: BaseException,
    *,
    escaped: str,
    task: CodeType | None = None,
    innermost: CodeType | None = None,
) -> str:
    """
    Say how *error*, which is not on its way any more, ended.

    Args:
        error: with its traceback.
        escaped: the outcome of one that left its task and was raised nowhere else.
        task: the code of the task's coroutine, where the task answers for itself.
        innermost: the code of the project's line; further in there is only Django.
    """
    trace = error.__traceback__
    if trace is None or trace.tb_frame.f_code is not innermost:  # mostly it is: caught on the spot
        trace = _without_bridges(trace)
        if trace is None:
            return escaped  # C code took it without its traceback, and let it go
        if _is_raised(trace, task, innermost):
            return RAISED
    frame, lasti = trace.tb_frame, trace.tb_lasti
    verdict = _verdict_at(frame, lasti, error)
    if verdict is None or frame.f_lasti in _reraises_of(frame.f_code):
        return escaped if frame.f_code.co_flags & _COROUTINE else SWALLOWED
    if verdict is _LET_THROUGH:
        return escaped if frame.f_lasti == lasti else SWALLOWED
    return verdict


def _is_raised(trace: TracebackType, task: CodeType | None, innermost: CodeType | None) -> bool:
    return (
        has_surfaced(trace, innermost) or _left(task, trace, innermost) or _is_seen_by_test(trace)
    )


def has_surfaced(trace: TracebackType | None, innermost: CodeType | None = None) -> bool:
    """Tell whether it reached what answers for the project: executor, handler, server, loop."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code is innermost:
            return False
        edge = code_of(code).edge
        if edge is not Edge.NONE and (edge in _SURFACES or code.co_name in _RUNNERS):
            return True
        trace = trace.tb_next
    return False


def _without_bridges(trace: TracebackType | None) -> TracebackType | None:
    """
    Skip where asgiref raised it once more, only to have it in ``sys.exc_info()`` of a thread.

    Code in an ``except`` block that awaits ``sync_to_async`` has it carried there and back.
    """
    while trace is not None and trace.tb_frame.f_code.co_name in ("thread_handler", "main_wrap"):
        if code_of(trace.tb_frame.f_code).package != "asgiref":
            break
        trace = trace.tb_next
    return trace


def _left(task: CodeType | None, trace: TracebackType, innermost: CodeType | None) -> bool:
    """Tell whether it left the task and was raised again where the task was awaited."""
    each: TracebackType | None = trace
    while each is not None and task is not None and each.tb_frame.f_code is not innermost:
        each = each.tb_next
        if each is not None and each.tb_frame.f_code is task:
            return True
    return False


def _is_seen_by_test(trace: TracebackType) -> bool:
    """A test that catches what the code under test raised is no part of that code."""
    return (
        trace.tb_next is not None
        and trace.tb_frame.f_code.co_name.startswith("test_")
        and (trace.tb_next.tb_frame.f_code is not trace.tb_frame.f_code)
        and code_of(trace.tb_next.tb_frame.f_code).is_project
    )


def _reraises_of(code: CodeType) -> frozenset[int]:
    """Return where *code* raises again what it had caught."""
    known = _reraises.get(id(code))
    if known is None:
        raw = code.co_code  # decoding all of it would take ten times longer
        offsets = (
            at
            for at in range(0, len(raw), 2)
            if raw[at] == _RERAISE or (raw[at] == _RAISE and raw[at + 1] == 0)
        )
        known = _reraises[id(code)] = (code, frozenset(offsets))
    return known[1]


def _verdict_at(frame: FrameType, lasti: int, error: BaseException) -> str | None:
    """Return what *frame* made of *error*; it is found out once where no variable decides."""
    key = id(frame.f_code), lasti, type(error)
    try:
        return _verdicts[key]
    except KeyError:
        clauses = _clauses_at(frame.f_code, lasti)
        verdict = _verdict(clauses, frame, error)
        if not any(each.opname in _VARIABLES for clause in clauses for each in clause.names):
            _verdicts[key] = verdict
        return verdict


def _verdict(clauses: list[Clause], frame: FrameType, error: BaseException) -> str | None:
    """Return what the first clause that takes *error* makes of it; None: no clause does."""
    by_type = isinstance(error, SynchronousOnlyOperation)
    otherwise = None
    for clause in clauses:
        values = list(_values(clause.names, frame))
        by_name = by_type and any(each is SynchronousOnlyOperation for each in values)
        if clause.kind == "bare":
            return SWALLOWED
        if clause.kind == "except":
            if any(isinstance(error, each) for each in values):
                return HANDLED if by_name else SWALLOWED
        elif any(each is contextlib.suppress for each in values):
            if by_name:
                return HANDLED
            otherwise = SWALLOWED
        elif by_name:  # pytest.raises(), assertRaises(): it is to be raised
            return RAISED
        else:
            otherwise = otherwise or _LET_THROUGH
    return otherwise


def _values(instructions: Iterable[dis.Instruction], frame: FrameType) -> Iterator[type]:
    """
    Yield the classes that names stand for.

    Whatever else they stand for is not looked at: that could run the project's code.
    """
    value: Any = None
    for each in instructions:
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = frame.f_globals.get(each.argval, frame.f_builtins.get(each.argval))
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            is_scope = type(value) is ModuleType or issubclass(type(value), type)
            value = vars(value).get(each.argval) if is_scope else None
        elif each.opname in _VARIABLES:
            value = frame.f_locals.get(each.argval)
        else:
            continue
        for found in value if type(value) is tuple else (value,):
            if issubclass(type(found), type):
                yield found


def _clauses_at(code: CodeType, lasti: int) -> list[Clause]:
    key = (id(code), lasti)
    known = _clauses.get(key)
    if known is None:
        if len(_clauses) > MOST_KNOWN:
            for each in (_clauses, _reraises, _verdicts):
                each.clear()
        known = _clauses[key] = (code, list(_read_clauses(code, lasti)))
    return known[1]


def _read_clauses(code: CodeType, lasti: int) -> Iterator[Clause]:
    """
    Yield what covers *lasti*, the inner first.

    A handler that takes nothing raises again, in an instruction that the next outer one covers.
    """
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    instructions: list[dis.Instruction] = []
    at: int | None = lasti
    seen: set[int] = set()
    while at is not None:
        target = next((e.target for e in table if e.start <= at < e.end), None)
        if target is None or target in seen:
            return
        seen.add(target)
        instructions = instructions or list(dis.get_instructions(code))
        start = next(n for n, each in enumerate(instructions) if each.offset >= target)
        clauses, at = _read_handler(instructions, start)
        yield from clauses


def _read_handler(
    instructions: list[dis.Instruction], start: int
) -> tuple[list[Clause], int | None]:
    """Return the clauses of the handler that starts there, and where it raises again."""
    clauses: list[Clause] = []
    is_handler = instructions[start].opname == "PUSH_EXC_INFO"
    names: list[dis.Instruction] = []
    index = start + 1 if is_handler else start
    while index < len(instructions):
        each = instructions[index]
        if each.opname == "RERAISE":
            return clauses, each.offset
        if is_handler and each.opname == "WITH_EXCEPT_START":
            clauses.append(Clause("with", tuple(_inside(instructions[:start], each))))
        elif each.opname in _CHECKS:
            clauses.append(Clause("except", tuple(names)))
            names = []
            index = _jump_target(instructions, index)
            continue
        elif is_handler and each.opname == "POP_EXCEPT" and not clauses:
            return [Clause("bare")], None
        names.append(each)
        index += 1
    return clauses, None


def _jump_target(instructions: list[dis.Instruction], index: int) -> int:
    """Return the index of the clause after the one that is checked at *index*."""
    for each in instructions[index + 1 :]:
        if "JUMP" in each.opname:
            return next(n for n, to in enumerate(instructions) if to.offset >= each.argval)
    return len(instructions)


def _inside(instructions: list[dis.Instruction], outer: dis.Instruction) -> list[dis.Instruction]:
    """Return the instructions that belong to the same piece of source as *outer*, or a part."""
    whole = outer.positions
    if whole is None or None in whole:
        return []
    return [
        each
        for each in instructions
        if (part := each.positions) is not None
        and None not in part
        and (whole.lineno, whole.col_offset) <= (part.lineno, part.col_offset)
        and (part.end_lineno, part.end_col_offset) <= (whole.end_lineno, whole.end_col_offset)
    ]
