"""Has a relation or a column loaded with the object that it is read from."""

from __future__ import annotations

from contextlib import suppress

import libcst as cst

from async_guard.fix.code import called_name, everything, last_name
from async_guard.fix.edit import Edit
from async_guard.fix.field import hinted_field
from async_guard.fix.locate import Place
from async_guard.fix.manager import check_is_queryset
from async_guard.fix.optimizer import check_hints_are_read
from async_guard.fix.queryset import Queryset, loading, loading_column, queryset_of
from async_guard.fix.refusal import Done, Refused
from async_guard.fix.resolver import is_django_type, parent_querysets, resolver_of
from async_guard.fix.scope import bindings, enclosing_function
from async_guard.fix.stale import check_is_current

_WRITES = {
    *("create", "get_or_create", "update_or_create", "bulk_create", "bulk_update", "update"),
    *("save", "delete", "add", "set", "remove", "clear"),
}
_MANY = {"related_manager", "many_to_many", "generic_relation"}


def from_local(place: Place) -> list[Edit]:
    """Change the queryset of the same function that the object was loaded by."""
    root, path = _path(place)
    queryset = queryset_of(place.source, root)
    if place.hit.access in _MANY and _writes(place):
        raise Refused("The function writes as well: what was prefetched could be out of date.")
    check_is_current(place, queryset, root, path)
    return _with_their_object(place, queryset, path) or _loaded(place, queryset, path)


def _with_their_object(place: Place, queryset: Queryset, path: list[str]) -> list[Edit]:
    """
    Load what rows of ``film.reviews.all()`` need with the film, which those are loaded with.

    A queryset of its own behind ``film.reviews`` would not use what was prefetched: it is refused
    where that may have been.
    """
    related = queryset.related
    names = [called_name(each) for each in queryset.calls]
    if related is None or names != ["all"] or queryset.end:
        return []
    outer = queryset_of(queryset.source, related.value)
    if place.hit.access == "deferred_field":
        return []
    if not _writes(place):
        return loading(outer, "prefetch_related", "__".join([related.attr.value, *path]))
    if "prefetch_related" in [called_name(each) for each in outer.calls]:
        raise Refused("The function writes as well: what was prefetched could be out of date.")
    return []


def _writes(place: Place) -> bool:
    function = enclosing_function(place.source, place.node)
    names = (called_name(each) for each in everything(function.body)) if function else ()
    return any(name and {name, name[1:]} & _WRITES for name in names)


def from_parent(place: Place) -> list[Edit]:
    """Load it with the object of a GraphQL field: in every resolver, or by the optimizer."""
    if not place.parents:
        _field_path(place)
        raise Refused("Which GraphQL field loaded the object is not in the log.")
    edits: list[Edit] = []
    done = None
    for field in place.parents:
        try:
            edits += _by_field(place, field)
        except Done as found:
            done = found
    if not edits and done is not None:
        raise done
    return edits


def _by_field(place: Place, field: str) -> list[Edit]:
    try:
        return _by_resolver(place, field)
    except Done:
        raise
    except Refused:
        if not place.hit.on_stack:  # there is no resolver that could have a hint
            raise
        return _by_optimizer(place, field)


def _by_resolver(place: Place, field: str) -> list[Edit]:
    """Change the querysets that the resolver of *field* returns."""
    path = _field_path(place)
    edits: list[Edit] = []
    done = None
    for queryset in parent_querysets(place, field):
        try:
            edits += _loaded(place, queryset, path)
        except Done as found:
            done = found
    if not edits and done is not None:
        raise done
    return edits


def _by_optimizer(place: Place, field: str) -> list[Edit]:
    """Tell the query optimizer what the resolver of a Django type needs."""
    _, path = _resolver_path(place)
    if not is_django_type(place.source, resolver_of(place)):
        raise Refused("The field is not one of a strawberry_django type.")
    check_hints_are_read(place, field)
    return hinted_field(place, hint_of(place), "__".join(path))


def hinted_where_read(place: Place) -> list[Edit]:
    """Give the hint where the optimizer reads it for one of the parents; nowhere it does harm."""
    edits: list[Edit] = []
    for field in place.parents:
        with suppress(Refused):  # the decorator may be elsewhere, or say so already
            edits += _by_optimizer(place, field)
    return edits


def from_parents_that_show(place: Place) -> list[Edit]:
    """Change the resolvers that can be seen; the rest of the fix does not depend on it."""
    edits: list[Edit] = []
    for field in place.parents:
        with suppress(Refused):
            edits += _by_resolver(place, field)
    return edits


def hint_of(place: Place) -> str:
    if place.hit.access == "deferred_field":
        return "only"
    return "prefetch_related" if place.hit.access in _MANY else "select_related"


def _loaded(place: Place, queryset: Queryset, path: list[str]) -> list[Edit]:
    wanted = (place.hit.orm_model or "").rsplit(".", 1)[-1]
    if len(path) == 1 and queryset.model and queryset.model != wanted:
        raise Refused(f"The rows are of {queryset.model}, not of {wanted}.")
    if place.hit.access == "deferred_field":
        return loading_column(queryset, "__".join(path))
    edits = loading(queryset, hint_of(place), "__".join(path))
    check_is_queryset(place.checkout, queryset)
    return edits


def _check_not_generic(place: Place, path: list[str]) -> None:
    """Refuse what lies behind a generic foreign key: nothing can join that, and not all have it."""
    for source in place.checkout.mentioning("GenericForeignKey"):
        for node in source.nodes:
            if isinstance(node, cst.Assign) and called_name(node.value) == "GenericForeignKey":
                names = {last_name(each.target) for each in node.targets}
                if found := names.intersection(path[:-1]):
                    raise Refused(f"What {found.pop()} leads to may be of any model.")


# --- from which object, along which path -------------------------------------------------------


def _path(place: Place) -> tuple[cst.BaseExpression, list[str]]:
    """Return ``film`` and ``["director", "studio"]`` for ``film.director.studio``."""
    node, names = _read(place.node), list[str]()
    while isinstance(node, cst.Attribute):
        names.insert(0, node.attr.value)
        node = node.value
    if not names or names[-1] != place.hit.orm_field or not isinstance(node, cst.Name | cst.Await):
        raise Refused("Which object the relation was read from is not sure.")
    _check_not_generic(place, names)
    return node, names


def _read(node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return the attribute that was read: ``x.tags`` of ``list(x.tags.all())``."""
    match node:
        case cst.Call(func=cst.Name(value="hasattr" | "getattr"), args=[first, second, *_]):
            if isinstance(second.value, cst.SimpleString):
                return cst.Attribute(first.value, cst.Name(str(second.value.evaluated_value)))
        case cst.Call(func=cst.Name(), args=[first, *_]):
            return _read(first.value)
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value="all"))):
            return _read(inner)
        case cst.Attribute():
            return node
    return None


def _resolver_path(place: Place) -> tuple[cst.Name, list[str]]:
    """Return the path from the first parameter of the resolver, its source object."""
    function = resolver_of(place)
    root, path = _path(place)
    parameters = (*function.params.posonly_params, *function.params.params)
    names = [each.name.value for each in parameters]
    if (
        not isinstance(root, cst.Name)
        or not names
        or root.value not in (names[0], "root", "parent")
        or root.value not in names
    ):
        raise Refused("What the relation was read from is not the object of the field.")
    if len(bindings(place.source, root)) > 1:
        raise Refused(f"{root.value} is bound more than once.")
    return root, path


def _field_path(place: Place) -> list[str]:
    if not place.hit.on_stack:
        if not place.hit.orm_field or not place.hit.graphql_field:
            raise Refused("What was read is not the relation of a GraphQL field.")
        return [place.hit.orm_field]
    return _resolver_path(place)[1]
