"""
Loads a relation for all objects of a hop with one query, where that gives what each alone gives.

``prefetch_related_objects`` fills the caches that the resolvers then read. It is only used where
it is known to change nothing but the number of queries: for Django's own descriptors and plain
base managers, without database routers, on saved objects of one database that have nothing cached.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from django.db import DatabaseError, connections, router, transaction
from django.db.models import ForeignKey, Manager, OneToOneField, QuerySet, prefetch_related_objects
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ForwardOneToOneDescriptor,
    ReverseOneToOneDescriptor,
)

from async_guard.origin import current

_FORWARD = (ForwardManyToOneDescriptor, ForwardOneToOneDescriptor)
LEAST = 2
"""A relation of a single object is loaded as well by the resolver itself."""


def load_together(jobs: Iterable[Any]) -> None:
    """
    Fill the relation of the jobs' sources, where a job names one.

    Two operations share neither an object nor a context: what a row is may depend on who asks.
    """
    groups: dict[Any, list[Any]] = {}
    for job in jobs:
        if job.relation is not None:
            groups.setdefault((job.relation, job.context.get(current)), []).append(job)
    for (relation, _), members in groups.items():
        sources = [job.source for job in members]
        loaded = members[0].in_context(load_relation, sources, relation)
        for job in members:
            job.batched = id(job.source) in loaded


def load_relation(sources: Iterable[Any], relation: str) -> set[int]:
    """Fill *relation* of those sources that lack it. Return the ids of these objects."""
    kinds: dict[tuple[type, Any], dict[int, Any]] = {}
    for source in sources:
        alias = getattr(getattr(source, "_state", None), "db", None)
        kinds.setdefault((type(source), alias), {})[id(source)] = source
    loaded: set[int] = set()
    for (model, alias), members in kinds.items():
        descriptor = inspect.getattr_static(model, relation, None)
        if alias is not None and len(members) >= LEAST and is_provable(descriptor):
            loaded.update(_load(alias, relation, descriptor, members.values()))
    return loaded


def is_provable(descriptor: Any) -> bool:
    """Tell whether loading together is known to give the same as loading one by one."""
    if router.routers:  # they may decide by the instance
        return False
    if type(descriptor) in _FORWARD:
        field = descriptor.field
        is_plain = type(field) in (ForeignKey, OneToOneField) and not field.remote_field.parent_link
        return is_plain and _is_plain(field.remote_field.model)
    if type(descriptor) is ReverseOneToOneDescriptor:
        return _is_plain(descriptor.related.related_model)
    return _is_generic(descriptor)


def _is_plain(model: Any) -> bool:
    manager = model._base_manager
    return type(manager) is Manager and type(manager.all()) is QuerySet


def _is_generic(descriptor: Any) -> bool:
    field = getattr(descriptor, "field", descriptor)
    return type(field).__module__ == "django.contrib.contenttypes.fields" and hasattr(
        field, "ct_field"
    )


def _load(alias: str, relation: str, descriptor: Any, sources: Iterable[Any]) -> Iterator[int]:
    bare = [source for source in sources if _is_bare(descriptor, source)]
    if type(descriptor) is ReverseOneToOneDescriptor:
        bare = _one_of_each(bare)
    if len(bare) < LEAST:
        return
    try:
        # a failed query would break the transaction that the resolvers run in
        is_open = connections[alias].in_atomic_block
        with transaction.atomic(using=alias) if is_open else nullcontext():
            prefetch_related_objects(bare, relation)
    except (DatabaseError, AttributeError, ValueError):
        return  # each resolver meets the error, if it is one
    if type(descriptor) in _FORWARD:
        _forget_missing(descriptor.field, bare)
    yield from map(id, bare)


def _is_bare(descriptor: Any, source: Any) -> bool:
    """Tell whether the relation of *source* is to be loaded, and in the usual way."""
    mode = getattr(source._state, "fetch_mode", None)
    if mode is not None and type(mode).__name__ != "FetchOne":  # Django 6.1
        return False
    if source.pk is None:
        return False
    if type(descriptor) is ReverseOneToOneDescriptor:
        return not descriptor.related.is_cached(source)
    field = getattr(descriptor, "field", descriptor)
    if _is_generic(descriptor):
        return not field.is_cached(source) and _is_plain_target(field, source)
    return not field.is_cached(source) and source.__dict__.get(field.attname) is not None


def _one_of_each(sources: list[Any]) -> list[Any]:
    """Leave out rows that are there twice: what is found leads back to one of them only."""
    times = Counter(source.pk for source in sources)
    return [source for source in sources if times[source.pk] == 1]


def _is_plain_target(field: Any, source: Any) -> bool:
    pk = source.__dict__.get(source._meta.get_field(field.ct_field).attname)
    if pk is None:
        return False
    model = field.get_content_type(id=pk, using=source._state.db).model_class()
    return model is not None and _is_plain(model)


def _forget_missing(field: Any, sources: list[Any]) -> None:
    """A row that is not there is ``None`` here, and ``DoesNotExist`` where it is loaded alone."""
    for source in sources:
        if field.is_cached(source) and field.get_cached_value(source) is None:
            field.delete_cached_value(source)
