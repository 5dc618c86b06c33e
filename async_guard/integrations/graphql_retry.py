"""
Has a schema's synchronous resolvers run again where they may: wraps ``GraphQLField.resolve``, once.

Whatever Strawberry makes of a field, permissions and extensions included, is in that one function,
so all of it runs in the worker, and no check is left out.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

from django.utils.functional import LazyObject
from graphql import (
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
)
from strawberry.extensions.field_extension import SyncToAsyncExtension
from strawberry.permission import PermissionExtension

from async_guard.integrations.graphql import field_in, path_in
from async_guard.integrations.graphql_ahead import rows_ahead
from async_guard.origin import FieldOrigin
from async_guard.retry.hops import Job
from async_guard.retry.policy import NEVER, SAFE, mark_of
from async_guard.retry.rerun import NOT_RETRIED, Places, Plan, Rerunner, evaluated
from async_guard.retry.watch import watch

DEFINITION = "strawberry-definition"


class FieldPlaces(Places):
    """Tells by the ``info`` among the arguments."""

    @staticmethod
    def path(args: Any, kwargs: Any) -> str | None:
        return path_in({"args": args, "kwargs": kwargs})

    @staticmethod
    def field(args: Any, kwargs: Any) -> FieldOrigin | None:
        return field_in({"args": args, "kwargs": kwargs})


class Fields:
    """The wrapped fields of all schemas."""

    def __init__(self, rerunner: Rerunner) -> None:
        self._rerunner = rerunner
        self._wrapped: weakref.WeakKeyDictionary[GraphQLSchema, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

    def wrap(self, schema: GraphQLSchema) -> None:
        """Wrap what may be run again; nothing if that was done before."""
        if schema in self._wrapped:
            return
        wrapped = self._wrapped[schema] = []
        effects = set(effect_types(schema))
        plans: dict[Any, dict[str, Plan]] = {}
        for owner in schema.type_map.values():
            if not isinstance(owner, GraphQLObjectType) or owner.name.startswith("__"):
                continue
            for name, field in owner.fields.items():
                for held, attribute, wrapper in self._wrappers(owner, name, field, effects, plans):
                    wrapped.append((held, attribute, vars(held).get(attribute)))
                    setattr(held, attribute, wrapper)

    def unwrap(self) -> None:
        """Give every field its own resolver back."""
        while self._wrapped:
            _, wrapped = self._wrapped.popitem()
            for held, attribute, original in reversed(wrapped):
                if original is None:
                    delattr(held, attribute)
                else:
                    setattr(held, attribute, original)

    def _wrappers(
        self,
        owner: GraphQLObjectType,
        name: str,
        field: Any,
        effects: set[GraphQLObjectType],
        plans: dict[Any, dict[str, Plan]],
    ) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """Yield what is to be replaced for a field: object, attribute, replacement."""
        definition = field.extensions.get(DEFINITION)
        if definition is None or field.resolve is None:
            return
        resolve, is_awaited = field.resolve, _is_awaited(definition)
        plan = None if definition.is_async else _plan(owner, name, field, definition, effects)
        if plan is not None and not is_awaited:
            plans.setdefault(owner, {})[name] = plan
            resolve = self._wrapper(plan, has_arguments=bool(field.args))
        elif plan is not None and _only_permits(definition):
            plan.resolve = definition.get_result
            yield definition, "get_result", functools.partial(self._rerunner.attempt_call, plan)
            resolve = _awaited_as_well(resolve)
        elif not is_awaited:
            return
        if self._rerunner.ahead is not None and _is_list(field.type) and owner not in effects:
            below = plans.setdefault(get_named_type(field.type), {})
            resolve = rows_ahead(self._rerunner.ahead, resolve, below)
        if resolve is not field.resolve:
            yield field, "resolve", resolve
        for permission in _sync_permissions(definition) if is_awaited else ():
            plan = Plan(f"{owner.name}.{name}", permission.has_permission, places=FieldPlaces)
            attempt = functools.partial(self._rerunner.attempt_call, plan)
            yield permission, "has_permission", attempt

    def _wrapper(self, plan: Plan, *, has_arguments: bool) -> Callable[..., Any]:
        """Return what is called for every field, so it does as little as it can."""
        rerunner, resolve = self._rerunner, plan.resolve
        is_list, is_object = plan.is_list, plan.is_object
        settled = rerunner.settled

        def resolved_with(source: Any, info: Any, /, **kwargs: Any) -> Any:
            if plan.route is not None:
                answer = rerunner.routed(plan, plan.route, (source, info), kwargs)
                if answer is not NOT_RETRIED:
                    return answer
            before = watch.count
            try:
                result = resolve(source, info, **kwargs)
                if (is_list and type(result) is not list) or (
                    is_object and isinstance(result, LazyObject)
                ):
                    result = evaluated(result)
            except Exception as error:
                if watch.count == before:
                    raise
                return settled(plan, sys._getframe(), (source, info), kwargs, None, error)
            if watch.count == before:
                return result
            return settled(plan, sys._getframe(), (source, info), kwargs, result, None)

        def resolved(source: Any, info: Any) -> Any:
            if plan.route is not None:
                answer = rerunner.routed(plan, plan.route, (source, info), {})
                if answer is not NOT_RETRIED:
                    return answer
            before = watch.count
            try:
                result = resolve(source, info)
                if (is_list and type(result) is not list) or (
                    is_object and isinstance(result, LazyObject)
                ):
                    result = evaluated(result)
            except Exception as error:
                if watch.count == before:
                    raise
                return settled(plan, sys._getframe(), (source, info), {}, None, error)
            if watch.count == before:
                return result
            return settled(plan, sys._getframe(), (source, info), {}, result, None)

        wrapper = resolved_with if has_arguments else resolved
        watch.codes.add(wrapper.__code__)
        return functools.update_wrapper(wrapper, resolve)


def _is_awaited(definition: Any) -> bool:
    """Tell whether the field is asynchronous, if only because of an extension or a permission."""
    return definition.is_async or not all(each.supports_sync for each in _resolving(definition))


def _only_permits(definition: Any) -> bool:
    """Tell whether the extensions hand on what the resolver gives: one may be a ``Job``."""
    known = PermissionExtension, SyncToAsyncExtension
    return all(isinstance(each, known) for each in _resolving(definition))


def _resolving(definition: Any) -> list[Any]:
    # what an older Strawberry does not know is part of the chain there
    return [each for each in definition.extensions if getattr(each, "has_resolver", True)]


def _awaited_as_well(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Strawberry awaits an asynchronous permission, and not what the synchronous resolver gives."""

    @functools.wraps(resolve)
    async def resolved(source: Any, info: Any, /, **kwargs: Any) -> Any:
        result = await resolve(source, info, **kwargs)
        return await result if isinstance(result, Job) else result

    return resolved


def _sync_permissions(definition: Any) -> Iterator[Any]:
    """
    Yield the permissions of an asynchronous field that ask synchronously.

    Strawberry awaits what they return if it can be awaited.
    """
    for extension in definition.extensions:
        for permission in getattr(extension, "permissions", ()):
            if not inspect.iscoroutinefunction(permission.has_permission):
                yield permission


def _plan(
    owner: GraphQLObjectType,
    name: str,
    field: Any,
    definition: Any,
    effects: set[GraphQLObjectType],
) -> Plan | None:
    """Return how the resolver may be run again; None: never."""
    resolver = definition.base_resolver
    mark = mark_of(resolver.wrapped_func) if resolver is not None else None
    if mark == NEVER or (owner in effects and mark != SAFE):
        return None
    resolve = _on_copies(field.resolve) if name == "_entities" else field.resolve
    name = f"{owner.name}.{name}"
    is_list = _is_list(field.type)
    is_object = not is_list and is_composite_type(get_named_type(field.type))
    return Plan(name, resolve, is_list=is_list, is_object=is_object, places=FieldPlaces)


def _on_copies(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Federation's resolver takes its arguments apart: a second run needs them whole."""

    @functools.wraps(resolve)
    def resolved(source: Any, info: Any, *, representations: Any) -> Any:
        return resolve(source, info, representations=[copy(each) for each in representations])

    return resolved


def _is_list(graphql_type: Any) -> bool:
    return is_list_type(graphql_type.of_type if is_non_null_type(graphql_type) else graphql_type)


def effect_types(schema: GraphQLSchema) -> Iterator[GraphQLObjectType]:
    """
    Yield the types whose fields have effects: the mutation root, and the namespaces below it.

    A namespace (``mutation { auth { login } }``) is what a root field without arguments gives,
    if each of its fields has a resolver: it holds no data, so it is no payload.
    """
    todo = [schema.mutation_type] if schema.mutation_type is not None else []
    seen = set(todo)
    while todo:
        owner = todo.pop()
        yield owner
        for field in owner.fields.values():
            inner = get_named_type(field.type)
            if (
                isinstance(inner, GraphQLObjectType)
                and inner not in seen
                and not field.args
                and _is_namespace(inner)
            ):
                seen.add(inner)
                todo.append(inner)


def _is_namespace(owner: GraphQLObjectType) -> bool:
    origin = getattr(owner.extensions.get(DEFINITION), "origin", None)
    if hasattr(origin, "__strawberry_django_definition__"):
        return False
    definitions = [field.extensions.get(DEFINITION) for field in owner.fields.values()]
    return all(each is not None and each.base_resolver is not None for each in definitions)
