"""
Which GraphQL field runs, read from graphql-core's frames, and where the project defines it.

Reading them costs nothing until there is a hit, and it works where a wrapper around resolvers
would not be asked: while values are completed, types resolved, scalars serialised.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    is_list_type,
)

try:
    from strawberry.types.info import Info
except ImportError:  # graphql-core without Strawberry

    class Info:  # type: ignore[no-redef]
        """Stands for a type that nothing is of."""


from async_guard.callsite import CallSite, clean, definition_of, function_name, project_path
from async_guard.origin import FieldOrigin

DEFINITION = "strawberry-definition"


def read_field(frame: FrameType) -> FieldOrigin | None:
    """Return the field that *frame*, one of a GraphQL library, works for, if it knows it."""
    return field_in(frame.f_locals)


def field_in(scope: dict[str, Any]) -> FieldOrigin | None:
    """Return the field of the ``info`` among variables or arguments, if there is one."""
    info = _info_in(scope)
    return None if info is None else field_of(info)


def path_in(scope: dict[str, Any]) -> str | None:
    """Return the response path of the ``info`` among variables or arguments, indexes folded."""
    info = _info_in(scope)
    return None if info is None else _folded(info.path)


def field_of_rows(info: Any, type_name: str, field_name: str) -> FieldOrigin:
    """Describe a field of the rows of the list that *info*, a ``GraphQLResolveInfo``, is for."""
    keys = (
        _key(node)
        for each in info.field_nodes
        for node in _fields(each.selection_set, info.fragments)
        if node.name.value == field_name
    )
    names = _of_operation(info) | {
        "path": f"{_folded(info.path)}[].{next(keys, field_name)}",
        "parent": f"{info.parent_type.name}.{info.field_name}",
    }
    return _with_definition(names, info.schema, type_name, field_name)


def field_of(info: Any) -> FieldOrigin:
    """Describe the field of a ``GraphQLResolveInfo``."""
    names = _of_operation(info) | {"path": _folded(info.path)}
    parent = _parent_of(info)
    if parent is not None:
        names["parent"] = f"{parent[0]}.{parent[1]}"
    return _with_definition(names, info.schema, info.parent_type.name, info.field_name)


def _of_operation(info: Any) -> dict[str, Any]:
    return {
        "operation_type": info.operation.operation.value,
        "operation_name": info.operation.name.value if info.operation.name else None,
    }


def read_operation(execution: Any) -> dict[str, Any]:
    """Return name and type of the operation of a Strawberry execution context, once parsed."""
    operation = _operation(execution)
    if operation is None:
        return {"operation_name": execution.operation_name}
    return {
        "operation_name": operation.name.value if operation.name else None,
        "operation_type": operation.operation.value,
    }


def read_root_field(execution: Any, frame: FrameType | None) -> FieldOrigin | None:
    """Describe the one root field of a subscription: no executor stands above its steps."""
    operation = _operation(execution)
    if operation is None or operation.operation.value != "subscription" or _is_loader(frame):
        return None
    schema = execution.schema._schema
    root = schema.get_root_type(operation.operation)
    fragments = _fragments(execution.graphql_document)
    node = next(iter(_fields(operation.selection_set, fragments)), None)
    if root is None or node is None:
        return None
    return _with_definition({"path": _key(node)}, schema, root.name, node.name.value)


def _is_loader(frame: FrameType | None) -> bool:
    """Tell whether a ``DataLoader`` calls: it loads for any fields, in a task of its own."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "strawberry.dataloader":
            return True
        frame = frame.f_back
    return False


def _operation(execution: Any) -> OperationDefinitionNode | None:
    document = execution.graphql_document
    if document is None:
        return None
    found = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    name = execution.operation_name
    named = (each for each in found if each.name and each.name.value == name)
    return next(named, found[0] if found else None)


def _with_definition(
    names: dict[str, Any], schema: Any, type_name: str, field_name: str
) -> FieldOrigin:
    names["field"] = f"{type_name}.{field_name}"
    definition = _definition(schema, type_name, field_name)
    if definition is None:
        return FieldOrigin(names, lambda: None)
    names["resolver"] = _resolver_name(definition)
    if _is_plain_field_of_django_type(schema, type_name, definition):
        names["plain_field"] = True
    return FieldOrigin(names, partial(_site_of, definition))


def _info_in(scope: dict[str, Any]) -> Any:
    """
    Return the ``GraphQLResolveInfo`` among a frame's variables, also one handed on in a call.

    Told by its type: asking the project's own objects could run their code.
    """
    args, kwargs = scope.get("args"), scope.get("kwargs")
    candidates = [scope.get("info")]
    if isinstance(args, tuple):
        candidates += args
    if isinstance(kwargs, dict):
        candidates.append(kwargs.get("info"))
    for each in candidates:
        raw: Any = each
        if issubclass(type(each), Info):
            raw = each._raw_info  # type: ignore[union-attr]
        if hasattr(type(raw), "parent_type") and hasattr(type(raw), "field_nodes"):
            return raw
    return None


def _folded(path: Any) -> str:
    """Return ``users[].profile`` for the path ``users, 3, profile``."""
    text = ""
    for key in path.as_list():
        text += "[]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _parent_of(info: Any) -> tuple[str, str] | None:
    """Return type and name of the field that produced the object; the path has its alias only."""
    path = info.path.prev
    while path is not None and isinstance(path.key, int):
        path = path.prev
    if path is None or path.typename is None:
        return None
    keys = [key for key in path.as_list() if not isinstance(key, int)]
    name = _name_behind(keys, info.operation.selection_set, info.fragments)
    return path.typename, name or keys[-1]


def _name_behind(keys: list[str], selection: Any, fragments: Any) -> str | None:
    nodes = [selection]
    found: list[FieldNode] = []
    for key in keys:
        found = [node for each in nodes for node in _fields(each, fragments) if _key(node) == key]
        nodes = [node.selection_set for node in found]
    return found[0].name.value if found else None


def _key(node: FieldNode) -> str:
    """Return the name that the field has in the response."""
    return node.alias.value if node.alias else node.name.value


def _fields(selection: Any, fragments: Any) -> Iterator[FieldNode]:
    for node in selection.selections if selection is not None else ():
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode):
            fragment = fragments.get(node.name.value)
            fragment = getattr(fragment, "definition", fragment)  # graphql-core 3.3 wraps it
            yield from _fields(getattr(fragment, "selection_set", None), fragments)


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}


# --- Strawberry's definition behind a field ----------------------------------------------------


def _definition(schema: Any, type_name: str, field_name: str) -> Any:
    """Return the ``StrawberryField``, or None where the schema was not made by Strawberry."""
    graphql_type = schema.get_type(type_name)
    field = getattr(graphql_type, "fields", {}).get(field_name)
    return getattr(field, "extensions", {}).get(DEFINITION)


def _resolver_name(definition: Any) -> str | None:
    if definition is None:
        return None
    resolver = definition.base_resolver
    if resolver is not None:
        function = resolver.wrapped_func
        name = function_name(None, getattr(function, "__qualname__", definition.python_name))
        return f"{getattr(function, '__module__', '?')}:{name}"
    origin = definition.origin
    if origin is None:
        return None
    name = function_name(None, getattr(origin, "__qualname__", str(origin)))
    return f"{getattr(origin, '__module__', '?')}:{name}.{definition.python_name}"


def _is_plain_field_of_django_type(schema: Any, type_name: str, definition: Any) -> bool:
    """Tell a sync ``strawberry.field`` on a ``strawberry_django.type``, which runs in the loop."""
    graphql_type = schema.get_type(type_name)
    owner = getattr(graphql_type, "extensions", {}).get(DEFINITION)
    is_django = hasattr(getattr(owner, "origin", None), "__strawberry_django_definition__")
    resolver = definition.base_resolver
    is_sync = resolver is not None and not resolver.is_async
    is_plain = not type(definition).__module__.startswith("strawberry_django")
    return is_django and is_sync and is_plain


def _site_of(definition: Any) -> CallSite | None:
    if definition.base_resolver is not None:
        return definition_of(definition.base_resolver.wrapped_func, returns=True)
    origin = definition.origin
    module = sys.modules.get(getattr(origin, "__module__", ""))
    filename = getattr(module, "__file__", None)
    if filename is None:
        return None
    lines = linecache.getlines(filename)
    line = _annotation_line(lines, origin.__name__, definition.python_name)
    return CallSite(
        path=project_path(filename),
        line=line,
        function=function_name(
            origin.__module__, f"{origin.__qualname__}.{definition.python_name}"
        ),
        text=clean(lines[line - 1].split("#")[0].strip()) if 0 < line <= len(lines) else "",
        on_stack=False,
    )


def _annotation_line(lines: list[str], class_name: str, name: str) -> int:
    """Find ``name: …`` in ``class class_name``: the line that a default resolver answers for."""
    start = 0
    for number, text in enumerate(lines, 1):
        if re.match(rf"\s*class\s+{re.escape(class_name)}\b", text):
            start = number
        elif start and re.match(rf"\s+{re.escape(name)}\s*[:=]", text):
            return number
    return start or 1


def read_field_key(frame: FrameType) -> tuple[Any, ...] | None:
    """Return schema, type and name of the field that *frame* works for: ``read_field`` in short."""
    info = _info_in(frame.f_locals)
    if info is None:
        return None
    return weakref.ref(info.schema), info.parent_type.name, info.field_name


# --- a field whose executor is not on the stack: its resolver runs in a worker thread ------------


def find_field(execution: Any, frame: FrameType | None) -> FieldOrigin | None:
    """
    Return the selected field whose resolver, or whose attribute, *frame* runs.

    Several fields may share a resolver; without an executor on the stack only one that is
    selected once can be told.
    """
    operation = _operation(execution)
    if operation is None:
        return None
    schema = execution.schema._schema
    wanted = _resolvers_and_attributes(frame)
    fragments = _fragments(execution.graphql_document)
    root = schema.get_root_type(operation.operation)
    found = [
        selected
        for selected in _selected(operation.selection_set, root, fragments, "", None)
        if _answers_for(schema, selected, wanted)
    ]
    if len(found) != 1:
        return None
    path, type_name, field_name, parent = found[0]
    names = {"path": path, "parent": parent} if parent else {"path": path}
    return _with_definition(names, schema, type_name, field_name)


Selected = tuple[str, str, str, str | None]


def _selected(
    selection: Any, parent_type: Any, fragments: Any, prefix: str, parent: str | None
) -> Iterator[Selected]:
    """Yield path, type, field and parent field of all that is selected, below lists with ``[]``."""
    for node in _fields(selection, fragments):
        field = getattr(parent_type, "fields", {}).get(node.name.value)
        if field is None:
            continue
        path = prefix + _key(node)
        name = f"{parent_type.name}.{node.name.value}"
        yield path, parent_type.name, node.name.value, parent
        inner, brackets = _named_type(field.type)
        below = f"{path}{brackets}."
        yield from _selected(node.selection_set, inner, fragments, below, name)


def _named_type(graphql_type: Any) -> tuple[Any, str]:
    brackets = ""
    while hasattr(graphql_type, "of_type"):
        brackets += "[]" if is_list_type(graphql_type) else ""
        graphql_type = graphql_type.of_type
    return graphql_type, brackets


def _resolvers_and_attributes(frame: FrameType | None) -> set[Any]:
    """Return the code on the stack, and model and attribute that strawberry_django gets."""
    found: set[Any] = set()
    while frame is not None:
        found.add(id(frame.f_code))
        args = frame.f_locals.get("args")
        if frame.f_code.co_name == "sync_resolver" and isinstance(args, tuple) and len(args) > 1:
            found.add((type(args[0]), args[1]))
        frame = frame.f_back
    return found


def _answers_for(schema: Any, selected: Selected, wanted: set[Any]) -> bool:
    _, type_name, field_name, _ = selected
    definition = _definition(schema, type_name, field_name)
    if definition is None:
        return False
    if definition.base_resolver is not None:
        function = inspect.unwrap(definition.base_resolver.wrapped_func)
        return id(getattr(function, "__code__", None)) in wanted
    owner = schema.get_type(type_name).extensions[DEFINITION].origin
    model = getattr(getattr(owner, "__strawberry_django_definition__", None), "model", None)
    attribute = getattr(definition, "django_name", None) or definition.python_name
    return (model, attribute) in wanted
