"""
Has a schema's synchronous resolvers run again where they may: wraps ``GraphQLField.resolve``, once.

Whatever Strawberry makes of a field, permissions and extensions included, is in that one function,
so all of it runs in the worker, and no check is left out.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import sys
import weakref
from collections.abc import Callable, Iterator
from copy import copy
from types import CodeType, FrameType
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

from async_guard.expression import attempted
from async_guard.integrations.graphql import field_in, path_in
from async_guard.integrations.graphql_ahead import rows_ahead
from async_guard.origin import FieldOrigin, current
from async_guard.retry.hops import Job
from async_guard.retry.policy import NEVER, SAFE, mark_of
from async_guard.retry.rerun import NOT_RETRIED, Places, Plan, Rerunner, evaluated
from async_guard.retry.watch import watch

DEFINITION = "strawberry-definition"


_WRAPPED = "__async_guard_wrapped__"
_ASKS = PermissionExtension.resolve_async.__code__
"""Awaits what a permission says. Whoever else asks one takes the answer as it is."""


_KNOWN = ("async_guard.", "strawberry.", "strawberry_django.")
_OF_AWAITABLES = {
    *("isawaitable", "is_awaitable", "iscoroutine", "await_maybe", "Awaitable"),
    *("ensure_future", "create_task", "__await__", "asyncio"),
}


def hands_on(caller: FrameType | None) -> bool:
    """
    Tell whether what called a resolver takes something to await instead of its value.

    graphql-core does. In between is the ``resolve()`` of a schema extension: one that never asks
    whether it got an awaitable would take that for the value, and so redact nothing of it.
    """
    operation = current.get()
    if operation is not None and operation.is_synchronous:
        return False
    while caller is not None:
        module = caller.f_globals.get("__name__", "")
        if module.startswith("graphql."):
            return True
        if not (module.startswith(_KNOWN) or _takes_awaitables(caller)):
            return False
        caller = caller.f_back
    return True


def _takes_awaitables(frame: FrameType) -> bool:
    return not _OF_AWAITABLES.isdisjoint(_names_in(frame.f_code)) or _returns_at_once(
        frame.f_code, frame.f_lasti
    )


@functools.cache
def _names_in(code: CodeType) -> set[str]:
    """Return the names of a function, and of those that are defined in it."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names, *code.co_freevars}.union(*map(_names_in, inner))


@functools.cache
def _returns_at_once(code: CodeType, called_at: int) -> bool:
    """Tell whether the value of a call is returned as it is."""
    where = list(code.co_positions())[called_at // 2]
    tree = attempted(ast.parse, "".join(linecache.getlines(code.co_filename)))
    nodes = ast.walk(tree) if tree is not None else ()
    returned = (each.value for each in nodes if isinstance(each, ast.Return))
    return where in [_position(each) for each in returned if each is not None]


def _position(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


class FieldPlaces(Places):
    """Tells by the ``info`` among the arguments."""

    @staticmethod
    def path(args: Any, kwargs: Any) -> str | None:
        return path_in({"args": args, "kwargs": kwargs})

    @staticmethod
    def field(args: Any, kwargs: Any) -> FieldOrigin | None:
        return field_in({"args": args, "kwargs": kwargs})


class _Shared:
    """A function that fields, types and schemas share. Each of these has a plan of its own."""

    def __init__(
        self, rerunner: Rerunner, held: Any, attribute: str, caller: CodeType | None
    ) -> None:
        """
        Args:
            caller: the only code that awaits what the function gives; None: all that calls it.
        """
        self._rerunner = rerunner
        self._held, self._attribute, self._caller = held, attribute, caller
        self._own = vars(held).get(attribute)
        self._original = getattr(held, attribute)
        self._plans: weakref.WeakKeyDictionary[GraphQLSchema, dict[tuple[str, str], Plan]]
        self._plans = weakref.WeakKeyDictionary()
        setattr(held, attribute, self)

    def add(self, schema: GraphQLSchema, owner: GraphQLObjectType, name: str, plan: Plan) -> Any:
        """Have a field's calls follow *plan*. Return the function itself."""
        self._plans.setdefault(schema, {})[owner.name, name] = plan
        return self._original

    def uninstall(self) -> None:
        if vars(self._held).get(self._attribute) is not self:
            return
        if self._own is None:
            delattr(self._held, self._attribute)
        else:
            setattr(self._held, self._attribute, self._own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plan = self._plan_of(args[1] if len(args) > 1 else kwargs.get("info"))
        if plan is None or self._caller not in (None, sys._getframe(1).f_code):
            return self._original(*args, **kwargs)
        return self._rerunner.attempt(plan, args, kwargs)

    def _plan_of(self, info: Any) -> Plan | None:
        info = getattr(info, "_raw_info", None)  # Strawberry's has graphql-core's
        if info is None:
            return None
        plans = self._plans.get(info.schema, {})
        return plans.get((info.parent_type.name, info.field_name))


class Fields:
    """The wrapped fields of all schemas."""

    def __init__(self, rerunner: Rerunner) -> None:
        self._rerunner = rerunner
        self._schemas: weakref.WeakSet[GraphQLSchema] = weakref.WeakSet()
        self._shared: weakref.WeakSet[_Shared] = weakref.WeakSet()

    def wrap(self, schema: GraphQLSchema) -> None:
        """Wrap what may be run again; nothing if that was done before."""
        if schema in self._schemas:
            return
        wrapped: list[Any] = []
        setattr(schema, _WRAPPED, wrapped)  # there, or it would be kept for ever: they lead to it
        self._schemas.add(schema)
        effects = set(effect_types(schema))
        plans: dict[Any, dict[str, Plan]] = {}
        for owner in schema.type_map.values():
            if not isinstance(owner, GraphQLObjectType) or owner.name.startswith("__"):
                continue
            for name, field in owner.fields.items():
                resolve = self._resolver(schema, owner, name, field, effects, plans)
                if resolve is not field.resolve:
                    wrapped.append((field, field.resolve))
                    field.resolve = resolve

    def unwrap(self) -> None:
        """Give every field its own resolver back."""
        while self._schemas:
            schema = self._schemas.pop()
            for field, original in getattr(schema, _WRAPPED):
                field.resolve = original
            delattr(schema, _WRAPPED)
        while self._shared:
            self._shared.pop().uninstall()

    def _resolver(
        self,
        schema: GraphQLSchema,
        owner: GraphQLObjectType,
        name: str,
        field: Any,
        effects: set[GraphQLObjectType],
        plans: dict[Any, dict[str, Plan]],
    ) -> Any:
        """Return the resolver that a field is to have, maybe its own; wrap what it asks."""
        definition = field.extensions.get(DEFINITION)
        resolve = field.resolve
        if definition is None or resolve is None:
            return resolve
        is_awaited = _is_awaited(definition)
        plan = None if definition.is_async else _plan(owner, name, field, definition, effects)
        if plan is not None and not is_awaited:
            plans.setdefault(owner, {})[name] = plan
            plan.hands_on = hands_on
            resolve = self._wrapper(plan, has_arguments=bool(field.args))
        elif plan is not None and _only_permits(definition):
            plan.resolve = self._share(definition, "get_result").add(schema, owner, name, plan)
            resolve = _awaited_as_well(resolve)
        elif not is_awaited:
            return resolve
        if self._rerunner.ahead is not None and _is_list(field.type) and owner not in effects:
            below = plans.setdefault(get_named_type(field.type), {})
            resolve = rows_ahead(self._rerunner.ahead, resolve, below)
        for permission in _sync_permissions(definition) if is_awaited else ():
            plan = Plan(f"{owner.name}.{name}", permission.has_permission, places=FieldPlaces)
            shared = self._share(permission, "has_permission", _ASKS)
            plan.resolve = shared.add(schema, owner, name, plan)
        return resolve

    def _share(self, held: Any, attribute: str, caller: CodeType | None = None) -> _Shared:
        found = vars(held).get(attribute)
        if not isinstance(found, _Shared):
            found = _Shared(self._rerunner, held, attribute, caller)
            self._shared.add(found)
        return found

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
            before, result = watch.count, None
            try:
                result = resolve(source, info, **kwargs)
                if (is_list and type(result) is not list) or (
                    is_object and isinstance(result, LazyObject)
                ):
                    result = evaluated(result)
            except Exception as error:
                if watch.count == before:
                    raise
                return settled(plan, sys._getframe(), (source, info), kwargs, result, error)
            if watch.count == before:
                return result
            return settled(plan, sys._getframe(), (source, info), kwargs, result, None)

        def resolved(source: Any, info: Any) -> Any:
            if plan.route is not None:
                answer = rerunner.routed(plan, plan.route, (source, info), {})
                if answer is not NOT_RETRIED:
                    return answer
            before, result = watch.count, None
            try:
                result = resolve(source, info)
                if (is_list and type(result) is not list) or (
                    is_object and isinstance(result, LazyObject)
                ):
                    result = evaluated(result)
            except Exception as error:
                if watch.count == before:
                    raise
                return settled(plan, sys._getframe(), (source, info), {}, result, error)
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
    known = PermissionExtension.resolve_async, SyncToAsyncExtension.resolve_async
    return all(type(each).resolve_async in known for each in _resolving(definition))


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
    for permission in _permissions(definition):
        if mark_of(type(permission)) != NEVER and not inspect.iscoroutinefunction(
            permission.has_permission
        ):
            yield permission


def _permissions(definition: Any) -> Iterator[Any]:
    for extension in definition.extensions:
        if isinstance(extension, PermissionExtension):
            yield from extension.permissions


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
    if any(mark_of(type(each)) == NEVER for each in _permissions(definition)):
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
