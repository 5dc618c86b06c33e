"""Has what the fields of a list's rows are known to need loaded before the list is completed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode

from async_guard.integrations.graphql import field_of_rows
from async_guard.origin import FieldOrigin
from async_guard.retry.ahead import Ahead
from async_guard.retry.rerun import Plan
from async_guard.retry.routes import Route, known


def rows_ahead(
    ahead: Ahead, resolve: Callable[..., Any], plans: Mapping[str, Plan]
) -> Callable[..., Any]:
    """
    Wrap the resolver of a list field.

    Args:
        plans: those of the fields of its rows, by name.
    """

    @functools.wraps(resolve)
    def resolved(source: Any, info: Any, /, **kwargs: Any) -> Any:
        result = resolve(source, info, **kwargs)
        if not len(known):
            return result
        routes = list(_wanted(plans, info))
        if not routes:
            return result
        return ahead.load(routes, result, functools.partial(_field_of, info))

    return resolved


def _field_of(info: Any, route: Route) -> FieldOrigin:
    return field_of_rows(info, *route.name.split("."))


def _wanted(plans: Mapping[str, Plan], info: Any) -> Iterator[Route]:
    """Yield the routes of the rows' fields that the operation selects."""
    routes = {name: plan.route for name, plan in plans.items() if plan.route is not None}
    if not routes:
        return
    selected = set(_selected(info.field_nodes, info.fragments, set()))
    for name, route in routes.items():
        if name in selected and route.relation and route.suffices and route.together:
            yield route


def _selected(nodes: Iterable[Any], fragments: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    """Yield the fields that are selected for sure: one below a directive may be skipped."""
    for node in nodes:
        selections = node.selection_set.selections if node.selection_set is not None else ()
        certain = [each for each in selections if not each.directives]
        yield from (each.name.value for each in certain if isinstance(each, FieldNode))
        spreads = {e.name.value for e in certain if isinstance(e, FragmentSpreadNode)} - seen
        seen |= spreads
        inner = [each for each in certain if isinstance(each, InlineFragmentNode)]
        inner += [fragments[spread] for spread in spreads if spread in fragments]
        yield from _selected(inner, fragments, seen)
