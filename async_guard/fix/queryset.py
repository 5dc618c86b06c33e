"""
Finds the queryset that a value comes from, and adds to what it loads.

Followed are assignments, loops and comprehensions of one function. A name with more than one
origin, or a chain with a method that would clash, is not followed: then somebody has to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from async_guard.advice import ASYNC_METHODS
from async_guard.fix.checkout import Source
from async_guard.fix.code import called_name, has, is_sync_to_async, last_name, with_string
from async_guard.fix.edit import Edit
from async_guard.fix.refusal import Done, Refused
from async_guard.fix.scope import Binding, bindings

METHODS = {
    *("all", "filter", "exclude", "order_by", "select_related", "prefetch_related", "distinct"),
    *("annotate", "alias", "reverse", "using", "select_for_update", "complex_filter"),
    *("only", "defer", "none", "get_queryset"),
}
"""The methods that give another queryset."""
_CLASHING = {
    *("values", "values_list", "raw", "union", "intersection", "difference", "dates", "datetimes"),
    *("aggregate", "in_bulk", "create", "get_or_create", "update_or_create", "bulk_create"),
}
_ONE = {"get", "first", "last", "latest", "earliest"}
_ENDS = {*_ONE, *(f"a{name}" for name in _ONE), "iterator", "aiterator"}
_SHORTCUTS = {
    *("get_object_or_404", "aget_object_or_404", "get_list_or_404", "aget_list_or_404"),
}
_LISTS = {"list", "tuple", "sorted", "enumerate", "reversed"}


@dataclass(slots=True)
class Queryset:
    """A chain of queryset methods as it stands in the code."""

    source: Source
    node: cst.BaseExpression
    """The whole chain, without what ends it: what ``.select_related()`` can be called on."""
    calls: list[cst.Call] = field(default_factory=list)
    """Its method calls, first to last, with those of the names that it starts from."""
    model: str | None = None
    """The name before ``.objects``."""
    insertion: cst.BaseExpression | None = None
    """The part of the chain that a further method goes behind."""
    end: str | None = None
    """The method that fetched the rows."""
    related: cst.Attribute | None = None
    """``film.reviews``, where it starts from what belongs to another object."""


def queryset_of(source: Source, node: cst.BaseExpression | None) -> Queryset:
    """Return the queryset behind a value: an object, a list of them, or the queryset itself."""
    match node:
        case cst.Await(expression=inner):
            return queryset_of(source, inner)
        case (
            cst.ListComp(elt=cst.Name(value=name), for_in=loop)
            | cst.SetComp(elt=cst.Name(value=name), for_in=loop)
        ):
            if isinstance(loop.target, cst.Name) and loop.target.value == name:
                return queryset_of(source, loop.iter)
        case cst.Name():
            return _of_name(source, node)
        case cst.Call(func=cst.Name(value=name), args=[cst.Arg(value=inner), *_]):
            if name in _SHORTCUTS | _LISTS:
                return queryset_of(source, inner)
        case cst.Call(func=cst.Call() as moved, args=args) if is_sync_to_async(source, moved):
            return _of_moved(source, moved, args)
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))):
            if name in _ENDS:
                found = queryset_of(source, inner)
                found.end = name
                return found
            return _of_chain(source, node)
        case cst.Subscript(value=inner):
            return queryset_of(source, inner)
        case cst.Attribute(attr=cst.Name(value=name)) if is_manager(name):
            return _of_chain(source, node)
    raise Refused("Where the object was loaded is not to be seen.")


def is_manager(name: str) -> bool:
    return name in ("objects", "_default_manager", "_base_manager")


def _is_of_model(node: cst.Attribute) -> bool:
    """Tell ``Film.objects``, and any other attribute of what is named like a class."""
    owner = last_name(node.value) or ""
    return is_manager(node.attr.value) or owner[:1].isupper()


def _of_moved(source: Source, moved: cst.Call, args: object) -> Queryset:
    """Look into ``sync_to_async(list)(queryset)`` and ``sync_to_async(queryset.get)(…)``."""
    function = moved.args[0].value if moved.args else None
    if isinstance(function, cst.Attribute) and function.attr.value in _ENDS:
        found = queryset_of(source, function.value)
        found.end = function.attr.value
        return found
    if last_name(function) in _LISTS and isinstance(args, list | tuple) and args:
        return queryset_of(source, args[0].value)
    raise Refused("Where the object was loaded is not to be seen.")


def _of_name(source: Source, name: cst.Name) -> Queryset:
    found = bindings(source, name)
    if not found:
        raise Refused(f"Where {name.value} was loaded is not to be seen.")
    if len(found) == 1:
        return _of_binding(source, found[0], name)
    return _of_steps(source, found, name)


def _of_binding(source: Source, binding: Binding, name: cst.Name) -> Queryset:
    if binding.value is None:
        raise Refused(f"Where {name.value} was loaded is not to be seen.")
    return queryset_of(source, binding.value)


def _of_steps(source: Source, found: list[Binding], name: cst.Name) -> Queryset:
    """Follow ``films = Film.objects.all()`` and then ``films = films.filter(…)``."""
    steps = [each for each in found if _is_step(each.value, name.value)]
    starts = [each for each in found if each not in steps]
    if len(starts) != 1 or any(each.is_element for each in found):
        raise Refused(f"{name.value} has more than one origin.")
    start = _of_binding(source, starts[0], name)
    if start.end is not None:
        raise Refused(f"{name.value} has more than one origin.")
    for step in steps:
        start.calls += _calls(step.value)
    start.node, start.insertion = name, name  # behind all the steps
    return start


_ENDING = {*ASYNC_METHODS, *(f"a{name}" for name in ASYNC_METHODS), *_ENDS}


def _is_step(value: cst.BaseExpression | None, name: str) -> bool:
    """Tell ``films.filter(…)`` from ``films.get()``, which gives something else."""
    while isinstance(value, cst.Call | cst.Attribute | cst.Subscript):
        if called_name(value) in _ENDING:
            return False
        value = value.func if isinstance(value, cst.Call) else value.value
    return isinstance(value, cst.Name) and value.value == name


def _calls(node: cst.BaseExpression | None) -> list[cst.Call]:
    found: list[cst.Call] = []
    while isinstance(node, cst.Call | cst.Attribute | cst.Subscript):
        if isinstance(node, cst.Call):
            found.insert(0, node)
            node = node.func
        else:
            node = node.value
    return found


def _of_chain(source: Source, node: cst.BaseExpression) -> Queryset:
    chain: list[cst.Call] = []
    inner: cst.BaseExpression = node
    while True:
        if isinstance(inner, cst.Subscript):
            inner = inner.value
        elif isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute):
            chain.insert(0, inner)
            inner = inner.func.value
        else:
            break
    found = _rooted(source, node, inner, chain)
    found.calls += chain
    unknown = [each for each in chain if called_name(each) not in METHODS]
    if unknown:
        found.insertion = unknown[-1]
    return found


def _rooted(
    source: Source, node: cst.BaseExpression, root: cst.BaseExpression, calls: list[cst.Call]
) -> Queryset:
    """Return the chain with what its innermost part says: a manager, or a name."""
    if isinstance(root, cst.Name):
        start = _of_name(source, root)
        if start.end is not None:
            raise Refused(f"{root.value} is no queryset.")
        return Queryset(source, node, start.calls, start.model, root)
    if isinstance(root, cst.Attribute):
        model = last_name(root.value) if _is_of_model(root) else None
        is_related = bool(calls) and called_name(calls[0]) in METHODS and not has(root, cst.Call)
        if model is None and not is_related:
            raise Refused("Where the object was loaded is not to be seen.")
        return Queryset(source, node, [], model, root, related=None if model else root)
    raise Refused("Where the object was loaded is not to be seen.")


# --- what it loads -----------------------------------------------------------------------------


def loading(queryset: Queryset, hint: str, path: str) -> list[Edit]:
    """
    Return the edit that adds ``.select_related("path")``; none where it is there already.

    Args:
        hint: ``select_related`` or ``prefetch_related``.
    """
    names = [called_name(each) for each in queryset.calls]
    if clash := next((each for each in names if each in _CLASHING), None):
        raise Refused(f"The rows come from {clash}(), which loads no related objects.")
    if hint == "select_related" and {"only", "defer"} & set(names):
        raise Refused(f'The rows lack columns, so that select_related("{path}") could clash.')
    if hint == "select_related" and "select_for_update" in names:
        raise Refused("The rows are locked, which PostgreSQL refuses for a join.")
    if hint == "prefetch_related" and queryset.end in ("iterator", "aiterator"):
        raise Refused("The rows come from iterator(), which needs a chunk size to prefetch.")
    same = [each for each in queryset.calls if called_name(each) == hint]
    if any(_is_special(each) for each in same):
        raise Refused(f"The rows come through a {hint}() that more cannot be added to.")
    if any(path == text or text.startswith(f"{path}__") for each in same for text in _texts(each)):
        raise Done(f'{hint}("{path}") is there already.')
    return [_added(queryset, hint, path, same)]


def _is_special(call: cst.Call) -> bool:
    """Tell ``select_related()``, which follows everything, and ``select_related(None)``."""
    return not call.args or any(last_name(arg.value) == "None" for arg in call.args)


def _texts(call: cst.Call) -> list[str]:
    return [
        str(arg.value.evaluated_value)
        for arg in call.args
        if isinstance(arg.value, cst.SimpleString)
    ]


def _added(queryset: Queryset, hint: str, path: str, same: list[cst.Call]) -> Edit:
    source = queryset.source
    if same:

        def extend(updated: cst.Call) -> cst.Call:
            return updated if path in _texts(updated) else with_string(updated, path)

        return Edit(source, same[-1], extend, (hint, path))
    target = queryset.insertion or queryset.node

    def change(updated: cst.BaseExpression) -> cst.BaseExpression:
        if (there := _added_before(updated, hint)) is not None:
            extended = updated.deep_replace(there, with_string(there, path))
            assert isinstance(extended, cst.BaseExpression)
            return extended
        method = cst.Attribute(updated, cst.Name(hint), dot=_dot(source, target))
        return with_string(cst.Call(method), path)

    return Edit(source, target, change, (hint, path))


def _added_before(node: cst.BaseExpression, hint: str) -> cst.Call | None:
    """Return the method that another edit has added, maybe with the other one around it."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        name = called_name(node)
        if name == hint:
            return node
        if name not in ("select_related", "prefetch_related"):
            return None
        node = node.func.value
    return None


def _dot(source: Source, node: cst.BaseExpression) -> cst.Dot:
    """Return the dot of the chain, which may be on a line of its own."""
    parent = source.parent(node)
    if isinstance(parent, cst.Attribute) and parent.value is node:
        return parent.dot.deep_clone()
    return cst.Dot()


def loading_column(queryset: Queryset, column: str) -> list[Edit]:
    """Add the column to ``only()``, or take it out of ``defer()``."""
    found = [each for each in queryset.calls if called_name(each) in ("only", "defer")]
    if len(found) != 1:
        raise Refused("Which only() or defer() left the column out is not sure.")
    call = found[0]
    if called_name(call) == "only":
        if column in _texts(call):
            raise Done(f'only("{column}") is there already.')
        return [Edit(queryset.source, call, lambda old: with_string(old, column), ("only", column))]
    kept = [arg for arg in call.args if column not in _texts(call.with_changes(args=[arg]))]
    if not kept or len(kept) == len(call.args):
        raise Refused("Which defer() left the column out is not sure.")
    last = kept[-1].with_changes(comma=call.args[-1].comma)
    return [
        Edit(
            queryset.source,
            call,
            lambda old: old.with_changes(args=[*kept[:-1], last]),
            ("defer", column),
        )
    ]
