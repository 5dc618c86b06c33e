"""
Which rewrites are tried for which rule, in their order; the first that can be done is.

A relation is best loaded with its object, so the queryset is looked for first. Where nothing better
is known, the access itself goes to the worker thread: right, but to be reviewed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import libcst as cst

from async_guard.fix import block, field, iteration, methods, protocol, relation, thread
from async_guard.fix.edit import Edit
from async_guard.fix.generator import as_list
from async_guard.fix.locate import Place
from async_guard.fix.refusal import Done, InGenerator, NotHere, Refused
from async_guard.fix.resolve_async import in_async_resolver
from async_guard.fix.scope import awaiting_function
from async_guard.hit import ASYNC_TO_SYNC, N_PLUS_ONE

Rewrite = Callable[[Place], list[Edit]]


def _as_django_field(place: Place) -> list[Edit]:
    """Change the decorator; what the resolver reads is loaded with its object, where it can be."""
    edits = field.django_field(place)
    if place.hit.access not in _READ:
        return edits
    edits += relation.hinted_where_read(place) + relation.from_parents_that_show(place)
    try:
        relation.from_parent(place)
    except Done:
        return edits
    except Refused:  # it is loaded in the thread, for one object after the other
        return [replace(each, is_fallback=True) for each in edits]
    return edits


def _evaluation(place: Place) -> list[Edit]:
    """Evaluate rows of a relation where they are, if they are rows that are evaluated."""
    if place.hit.orm_operation is None and isinstance(place.node, cst.Attribute):
        return thread.access_in_thread(place)  # one object, behind a generic foreign key
    if place.hit.orm_operation in _EVALUATIONS:
        return iteration.async_iteration(place)
    raise NotHere(f"{place.hit.text} does more than to read rows.")


def _call_of_many(place: Place) -> list[Edit]:
    """Move a call for the objects of a relation, such as ``prefetch_related_objects()``."""
    if place.hit.orm_operation in _EVALUATIONS:
        raise NotHere(f"{place.hit.text} reads rows.")
    if iteration.is_looped_over(place):  # what the rows are prefetched with comes after the rows
        return iteration.async_iteration(place)
    return thread.access_in_thread(place)


_EVALUATIONS = ("iterate", "len", "bool", "slice", "repr", None)
_READ = {
    *("forward_relation", "reverse_one_to_one", "deferred_field"),
    *("related_manager", "many_to_many", "generic_relation"),
}
_RELATION: tuple[Rewrite, ...] = (
    relation.from_local,
    relation.from_parent,
)
_ACCESS: tuple[Rewrite, ...] = (
    thread.access_in_thread,
    in_async_resolver(thread.access_in_thread),
    thread.caller_in_thread,
)
_CALL: tuple[Rewrite, ...] = (
    thread.call_in_thread,
    thread.access_in_thread,
    in_async_resolver(thread.access_in_thread),
    thread.caller_in_thread,
)

_ROWS: tuple[Rewrite, ...] = (_evaluation, in_async_resolver(_evaluation))

BY_RULE: dict[str, tuple[Rewrite, ...]] = {
    "AG101": (*_RELATION, *_ACCESS),
    "AG102": (_as_django_field,),
    "AG103": (*_RELATION, *_ROWS, _call_of_many, thread.caller_in_thread),
    "AG104": (*_RELATION, *_ACCESS),
    "AG105": (methods.twin, in_async_resolver(methods.twin), *_CALL),
    "AG106": (*_ROWS, thread.caller_in_thread),
    "AG107": (methods.request_user, in_async_resolver(methods.request_user), *_ACCESS),
    "AG108": (methods.twin, in_async_resolver(methods.twin), *_CALL),
    "AG109": (methods.twin, methods.operator, *_CALL),
    "AG110": (block.inner_function, thread.decorated_in_thread, block.caller_in_thread),
    "AG111": _CALL,
    "AG112": (block.inner_function, thread.caller_in_thread),
    "AG113": _RELATION,
    "AG114": (protocol.direct_await, *_CALL),
    "AG115": (methods.twin, methods.operator, *_CALL),
    "AG116": _CALL,
    "AG117": (methods.twin, *_CALL),
    "AG118": (thread.caller_in_thread,),
    "AG119": (
        in_async_resolver(methods.twin),
        in_async_resolver(_evaluation),
        *_ACCESS,
    ),
    "AG120": _CALL,
}
BY_KIND: dict[str, tuple[Rewrite, ...]] = {
    "unawaited_coroutine": (protocol.missing_await,),
    "async_protocol": (protocol.protocol,),
    ASYNC_TO_SYNC: BY_RULE["AG114"],
    N_PLUS_ONE: BY_RULE["AG113"],
}
_OTHER = ("blocking_call", "stray_connection", "transaction_across_await")


def rewrite(place: Place) -> list[Edit]:
    """Return the edits that fix the hit, or refuse with the reason."""
    if place.hit.outcome == "handled":
        raise Refused("The code catches SynchronousOnlyOperation by name: it knows what it does.")
    place = replace(place, node=iteration.meant_iterable(place))
    if (moved := _with_transaction(place)) is not None:
        return moved
    return _attempt(place)


def _attempt(place: Place) -> list[Edit]:
    try:
        return _first_of(place)
    except InGenerator as refused:
        return _in_a_list(place, refused.generator)


def _in_a_list(place: Place, generator: cst.GeneratorExp) -> list[Edit]:
    """Do it in a list, which is made of the generator expression around it."""
    made = as_list(place.source, generator)
    place.source.made_lists.add(generator)
    try:
        edits = _attempt(place)
    except Refused:
        place.source.made_lists.discard(generator)
        raise
    if any(parent is generator for each in edits for parent, _ in each.source.ancestors(each.node)):
        return [made, *edits]
    place.source.made_lists.discard(generator)
    return edits  # the caller is moved: here nothing awaits


def _first_of(place: Place) -> list[Edit]:
    refusals = []
    for each in _candidates(place):
        try:
            return each(place)
        except Done:
            raise
        except Refused as refused:
            refusals.append(refused)
    said = [each for each in refusals if not isinstance(each, NotHere)] or refusals
    raise said[-1] if said else Refused(f"There is no rewrite for {_what(place)}.")


def _candidates(place: Place) -> tuple[Rewrite, ...]:
    if place.hit.kind in _OTHER:
        return ()
    rule = place.hit.rule
    if rule == "AG106" and place.hit.relation is not None:
        rule = "AG103"  # CPython named another loop, which the advice was given for
    return BY_KIND.get(place.hit.kind) or BY_RULE.get(rule, ())


def _what(place: Place) -> str:
    return place.hit.kind if place.hit.kind in _OTHER else place.hit.rule or "it"


def _with_transaction(place: Place) -> list[Edit] | None:
    """Return the move of the transaction that the hit is in, which it has to go along with."""
    around = block.transaction_around(place.source, place.node)
    if around is None or place.hit.kind == N_PLUS_ONE:
        return None
    try:
        awaiting_function(place.source, place.node)
    except Refused:
        return None
    return [block.moved_block(place.source, around)]
