"""
What was accessed, as the project writes it, read from Django's own frames.

Between the refused call and the project's line lie frames of Django; some of them know what is
going on: a descriptor's ``__get__`` knows the field and the instance, a manager its relation, a
``QuerySet`` its model. The outermost of them is the closest to what the project wrote, so it
decides: ``Book.objects.create()`` ends in ``Book.save()``, ``book.body`` in a ``QuerySet.get()``.

Frames are found by their code objects, not by name, and give names only: never a value.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from types import CodeType, FrameType, FunctionType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.models.query import BaseIterable

from async_guard.callsite import DEPENDENCY, FRAMEWORK, PROJECT, Code, Edge, Stack, code_of
from async_guard.hit import ATOMIC_COROUTINE

_OPERATIONS = {
    "__iter__": "iterate",
    "_fetch_all": "iterate",
    "_iterator": "iterate",
    "__len__": "len",
    "__bool__": "bool",
    "__getitem__": "slice",
    "__repr__": "repr",
}


@dataclass(frozen=True, slots=True)
class Access:
    """One access to the database, in the project's words."""

    access: str
    """What was done: ``forward_relation``, ``queryset``, ``lazy_user``, … (see the schema)."""
    relation: str | None = None
    """``app.Model.field``."""
    model: str | None = None
    field: str | None = None
    operation: str | None = None
    alias: str | None = None
    owner: str = PROJECT
    owner_package: str | None = None


Reader = Callable[[FrameType], Access | None]
MOST_FILTERS = 10
"""So many of a queryset's filters are looked at where that has to be quick."""


def read_access(stack: Stack) -> Access:
    """Return what the innermost frames of *stack* say was accessed, and whose code did it."""
    found, at = None, 0
    for index, (frame, known) in enumerate(stack.frames):
        if known.reader is not None and (read := known.reader(frame)) is not None:
            if found is not None and _is_decided(found, read):
                continue
            found, at = read, index
    owner, package = _owner(stack, at)
    alias = _alias(stack.frames)
    return replace(found or Access("other"), owner=owner, owner_package=package, alias=alias)


def _is_decided(inner: Access, outer: Access) -> bool:
    """Tell whether *inner* says more than what it happened for: one is no part of the other."""
    is_prefetch = inner.operation == "prefetch"  # for which a query was needed
    is_argument = inner.access == "lazy_user" and outer.access != "auth"  # of .filter(user=…)
    return is_prefetch or is_argument


def cause_of(access: Access, frame: FrameType | None, holder: FrameType) -> str | None:
    """Return the single-valued relation, if it is one of the object that *holder* is about."""
    if access.access not in SINGLE or access.field is None:
        return None
    source = holder.f_locals.get("source")
    while frame is not None and frame is not holder:
        if source is not None and frame.f_locals.get("instance") is source:
            return access.field
        frame = frame.f_back
    return None


SINGLE = {"forward_relation", "reverse_one_to_one", "generic_relation"}


def read_key(
    frame: FrameType | None, deciding: FrameType | None, innermost: FrameType | None
) -> tuple[Any, ...]:
    """
    Return what tells two accesses of one line apart, more cheaply than ``read_access``.

    Args:
        frame: the outermost one that has a reader.
        deciding: the outermost one that decides, whatever is further out.
        innermost: the innermost one that has a reader.
    """
    if frame is None:
        return ()
    scope = frame.f_locals
    alias = _alias_of(innermost) if innermost is not None else None
    key = id(frame.f_code), scope.get("name"), alias, *_subject_key(scope)
    if deciding is None:
        return key
    scope = deciding.f_locals
    through = getattr(scope.get("lookup"), "prefetch_through", None)
    return *key, id(deciding.f_code), through, scope.get("level")


def _subject_key(scope: dict[str, Any]) -> tuple[Any, ...]:
    """Tell what an accessor is called on; a row by its type only: its attributes are loaded."""
    subject, instance = scope.get("self", scope.get("klass")), scope.get("instance")
    if instance is None:
        if label(type(subject)) is not None:
            return (id(type(subject)),)
        rows = subject.queryset if isinstance(subject, BaseIterable) else subject
        if isinstance(rows, QuerySet):
            return id(rows.model), *_rows_key(rows)
        instance = getattr(subject, "instance", None)  # of a related manager
    model = subject if isinstance(subject, type) else getattr(subject, "model", None)
    field = getattr(subject, "field", None) or getattr(subject, "related", None)
    return id(type(instance)), id(type(subject)), id(model), id(field)


def _rows_key(queryset: Any) -> Iterator[Any]:
    """Yield what ``_relation_behind`` looks at, as far as other filters are not part of it."""
    instance = queryset._hints.get("instance")
    yield id(type(instance))
    yield from map(id, queryset._known_related_objects)
    for field, value in _first_filters(queryset):
        if instance is not None:
            yield id(field)
        elif _is_content_type(field) and isinstance(value, int):
            yield value


def _owner(stack: Stack, at: int) -> tuple[str, str | None]:
    """Return whose frame called the accessor at index *at*; others are looked through."""
    for _, known in stack.frames[at + 1 :]:
        if known.owner in (FRAMEWORK, DEPENDENCY) and not _is_transparent(known):
            return str(known.owner), known.package
    if stack.site is None and stack.edge_kind is Edge.FIELD:
        return FRAMEWORK, "graphql"
    return PROJECT, None


_LOOKED_THROUGH = (
    "/django/utils/functional.py",
    "/django/contrib/auth/middleware.py",
    "/django/views/decorators/debug.py",
)


def _is_transparent(known: Code) -> bool:
    """Tell what is part of the access itself: the ORM, and what makes ``request.user`` lazy."""
    path = known.code.co_filename.replace("\\", "/")
    if known.package != "django" or path.endswith("/django/db/models/fields/files.py"):
        return False
    return "/django/db/" in path or path.endswith(_LOOKED_THROUGH)


def _alias(frames: list[tuple[FrameType, Code]]) -> str | None:
    for frame, _ in frames:
        if frame.f_code is _unsafe_code or code_of(frame.f_code).reader is read_unsafe:
            return _alias_of(frame)
    return None


def _alias_of(frame: FrameType) -> str | None:
    """Return the database that a frame of Django's ``async_unsafe`` is asked for."""
    args = frame.f_locals.get("args")
    connection = args[0] if isinstance(args, tuple) and args else None
    return connection.alias if isinstance(connection, BaseDatabaseWrapper) else None


# --- names -----------------------------------------------------------------------------------


def label(model: Any) -> str | None:
    """Return ``app.Model`` for a model class or an instance's class."""
    meta = getattr(model, "_meta", None)
    text = getattr(meta, "label", None)
    return text if isinstance(text, str) else None


def _relation(access: str, owner: Any, name: str | None, operation: str | None = None) -> Access:
    model = label(owner)
    relation = f"{model}.{name}" if model and name else None
    return Access(access, relation, model, name, operation)


# --- one reader per kind of frame --------------------------------------------------------------


def _read_forward(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    if scope.get("instance") is None:
        return None
    return _relation("forward_relation", type(scope["instance"]), scope["self"].field.name)


def _read_reverse_one_to_one(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    if scope.get("instance") is None:
        return None
    name = scope["self"].related.get_accessor_name()
    return _relation("reverse_one_to_one", type(scope["instance"]), name)


def _read_generic(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    if scope.get("instance") is None:
        return None
    descriptor = scope["self"]
    field = getattr(descriptor, "field", descriptor)
    return _relation("generic_relation", type(scope["instance"]), field.name)


def _read_deferred(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    if scope.get("instance") is None:
        return None
    return _relation("deferred_field", type(scope["instance"]), scope["self"].field.attname)


def _read_prefetch(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    instances, lookup = scope.get("instances"), scope.get("lookup")
    if not instances or lookup is None:
        return None
    name = lookup.prefetch_through.split("__")[scope.get("level") or 0]
    field = next((f for f in type(instances[0])._meta.get_fields() if _accessor(f) == name), None)
    found = _relation(_kind_of(field), type(instances[0]), name)
    return replace(found, operation="prefetch")


def _accessor(field: Any) -> str | None:
    name = getattr(field, "get_accessor_name", None)
    found: str | None = name() if name is not None else field.name
    return found


def _kind_of(field: Any) -> str:
    if field is None or getattr(field, "related_model", None) is None:
        return "generic_relation"
    if field.many_to_many:
        return "many_to_many"
    if field.one_to_many:
        is_generic = not field.auto_created
        return "generic_relation" if is_generic else "related_manager"
    return "reverse_one_to_one" if field.auto_created else "forward_relation"


def _read_related_manager(frame: FrameType) -> Access | None:
    manager = frame.f_locals.get("self")
    return manager and _of_manager(manager, frame.f_locals, frame.f_code.co_name)


def _of_manager(manager: Any, scope: dict[str, Any], operation: str) -> Access | None:
    """Return the relation that a manager stands for, None for one of a model as a whole."""
    instance = getattr(manager, "instance", None) or scope.get("instance")
    if instance is None or not hasattr(manager, "instance"):
        return None
    kind = type(manager).__name__
    if kind == "ManyRelatedManager":
        field = manager.model._meta.get_field(manager.query_field_name) if manager.reverse else None
        name = field.remote_field.get_accessor_name() if field else manager.prefetch_cache_name
        return _relation("many_to_many", type(instance), name, operation)
    if kind == "GenericRelatedObjectManager":
        rel = scope.get("rel")
        name = rel.field.name if rel is not None else manager.prefetch_cache_name
        return _relation("generic_relation", type(instance), name, operation)
    name = manager.field.remote_field.get_accessor_name()
    return _relation("related_manager", type(instance), name, operation)


def _read_manager_method(frame: FrameType) -> Access | None:
    scope = frame.f_locals
    manager, name = scope.get("self"), scope.get("name")
    if manager is None or not isinstance(name, str):
        return None
    return _of_manager(manager, {}, name) or Access(
        "queryset", model=label(manager.model), operation=name
    )


def _read_queryset(frame: FrameType) -> Access | None:
    queryset = frame.f_locals.get("self")
    name = frame.f_code.co_name
    operation = _OPERATIONS.get(name, name)
    if getattr(queryset, "query", None) is None:
        return None
    return of_queryset(queryset, operation)


def of_queryset(queryset: Any, operation: str) -> Access:
    """Return the relation whose rows a queryset gives, or else its model."""
    found = _relation_behind(queryset)
    if found is not None:
        return replace(found, operation=operation)
    raw = type(queryset).__name__ == "RawQuerySet"
    access = "raw_sql" if raw else "queryset"
    return Access(access, model=label(queryset.model), operation=operation)


def _relation_behind(queryset: Any) -> Access | None:
    instance = getattr(queryset, "_hints", {}).get("instance")
    if instance is None:
        return _generic_relation_behind(queryset)
    for field in getattr(queryset, "_known_related_objects", {}):
        name = field.remote_field.get_accessor_name()
        return _relation("related_manager", type(instance), name)
    through = {id(field) for field in _filtered_fields(queryset)}
    for field in type(instance)._meta.get_fields(include_hidden=True):
        if field.many_to_many and (found := _many_to_many(field, through)):
            return _relation("many_to_many", type(instance), found)
    return None


def _many_to_many(field: Any, through: set[int]) -> str | None:
    """Return the accessor if one of the *through* columns is where *field* starts from."""
    forward = field if not field.auto_created else field.field
    model = forward.remote_field.through
    name = forward.m2m_field_name() if forward is field else forward.m2m_reverse_field_name()
    source = model._meta.get_field(name)
    return _accessor(field) if id(source) in through else None


def _generic_relation_behind(queryset: Any) -> Access | None:
    """Read ``content_type = …`` of the filter; the type is looked up in Django's cache only."""
    for field, value in _filters(queryset):
        if _is_content_type(field):
            owner = _cached_content_type(value)
            for candidate in owner._meta.private_fields if owner is not None else ():
                if getattr(candidate, "content_type_field_name", None) == field.name and (
                    candidate.related_model is queryset.model
                ):
                    return _relation("generic_relation", owner, candidate.name)
    return None


def _is_content_type(field: Any) -> bool:
    return label(getattr(field, "related_model", None)) == "contenttypes.ContentType"


def _cached_content_type(pk: Any) -> Any:
    from django.contrib.contenttypes.models import ContentType

    for known in ContentType.objects._cache.values():  # type: ignore[attr-defined]
        if isinstance(pk, int) and pk in known:  # that of content_type__in is a list
            return known[pk].model_class()
    return None


def filters_by_content_type(queryset: Any) -> bool:
    """Tell whether a queryset may give the rows of a ``GenericRelation``."""
    return any(_is_content_type(field) for field, _ in _first_filters(queryset))


def _first_filters(queryset: Any) -> Iterator[tuple[Any, Any]]:
    return islice(_filters(queryset), MOST_FILTERS)


def _filtered_fields(queryset: Any) -> Iterator[Any]:
    for field, _ in _filters(queryset):
        yield field


def _filters(queryset: Any) -> Iterator[tuple[Any, Any]]:
    """Yield column and right-hand side of the queryset's lookups."""
    nodes = [queryset.query.where] if hasattr(queryset.query, "where") else []
    while nodes:
        node = nodes.pop()
        nodes.extend(getattr(node, "children", ()))
        target = getattr(getattr(node, "lhs", None), "target", None)
        if target is not None:
            yield target, getattr(node, "rhs", None)


def _read_iterable(frame: FrameType) -> Access | None:
    queryset = getattr(frame.f_locals.get("self"), "queryset", None)
    return None if queryset is None else of_queryset(queryset, "iterate")


def _read_shortcut(frame: FrameType) -> Access | None:
    klass = frame.f_locals.get("klass")
    model = getattr(klass, "model", klass)
    return Access("queryset", model=label(model), operation=frame.f_code.co_name)


_VALIDATION = {"full_clean", "clean_fields", "validate_unique", "validate_constraints"}
_WRITES = {"save", "save_base", "delete"}


def _read_model(frame: FrameType) -> Access | None:
    scope, name = frame.f_locals, frame.f_code.co_name
    model = type(scope["self"]) if "self" in scope else scope.get("cls")
    if label(model) is None:
        return None
    if name in _WRITES:
        return Access("instance_write", model=label(model), operation=name)
    if name in _VALIDATION:
        return Access("validation", model=label(model), operation=name)
    if name == "refresh_from_db":
        named = scope.get("fields")
        only = next(iter(named)) if isinstance(named, list | tuple) and len(named) == 1 else None
        return _relation("instance_read", model, only, name)
    return None


def _named(access: str, relation: str | None = None) -> Reader:
    """Make the reader for code that means one thing: its function's name is the operation."""

    def read(frame: FrameType) -> Access:
        return Access(access, relation, operation=frame.f_code.co_name)

    return read


_read_lazy_user = _named("lazy_user", "request.user")


def _read_content_type(frame: FrameType) -> Access:
    return Access("content_type", model="contenttypes.ContentType", operation=frame.f_code.co_name)


def decorates_coroutine(frame: FrameType | None) -> bool:
    """
    Tell whether *frame* is that of a ``ContextDecorator`` around a coroutine function.

    It enters and exits around the making of the coroutine, so before the body runs
    (https://docs.djangoproject.com/en/stable/topics/async/).
    """
    return (
        frame is not None
        and frame.f_code.co_qualname == "ContextDecorator.__call__.<locals>.inner"
        and inspect.iscoroutinefunction(inspect.unwrap(frame.f_locals["func"]))
    )


def read_atomic(frame: FrameType) -> Access:
    decorated = decorates_coroutine(frame.f_back)
    return Access("transaction", operation=ATOMIC_COROUTINE if decorated else "atomic")


def _read_transaction(frame: FrameType) -> Access:
    return Access("transaction", operation=frame.f_code.co_name)


def read_compiler(frame: FrameType) -> Access | None:
    query = getattr(frame.f_locals.get("self"), "query", None)
    model = label(getattr(query, "model", None))
    return None if model is None else Access("queryset", model=model, operation="execute")


def read_unsafe(frame: FrameType) -> Access:
    function = frame.f_locals.get("func")
    name = getattr(function, "__name__", "")
    access = "raw_sql" if name in ("cursor", "chunked_cursor") else "connection"
    return Access(access, operation=name or None)


# --- which frames are those ------------------------------------------------------------------

_RELATED = "django.db.models.fields.related_descriptors"
_GENERIC = "django.contrib.contenttypes.fields"
_TABLE: tuple[tuple[str, str, Reader], ...] = (
    # module, function or class (then all its functions), reader
    ("django.db.models.sql.compiler", "SQLCompiler.execute_sql", read_compiler),
    ("django.db.models.sql.compiler", "SQLInsertCompiler.execute_sql", read_compiler),
    ("django.db.models.query", "RawQuerySet", _read_queryset),
    ("django.db.models.query", "QuerySet", _read_queryset),
    ("django.db.models.query", "ModelIterable", _read_iterable),
    ("django.db.models.query", "ValuesIterable", _read_iterable),
    ("django.db.models.query", "ValuesListIterable", _read_iterable),
    ("django.db.models.query", "FlatValuesListIterable", _read_iterable),
    ("django.db.models.query", "prefetch_one_level", _read_prefetch),
    ("django.db.models.manager", "BaseManager._get_queryset_methods", _read_manager_method),
    ("django.db.models.base", "Model", _read_model),
    (_RELATED, "create_reverse_many_to_one_manager", _read_related_manager),
    (_RELATED, "create_forward_many_to_many_manager", _read_related_manager),
    (_RELATED, "ForwardManyToOneDescriptor.__get__", _read_forward),
    (_RELATED, "ReverseOneToOneDescriptor.__get__", _read_reverse_one_to_one),
    ("django.db.models.query_utils", "DeferredAttribute.__get__", _read_deferred),
    (_GENERIC, "create_generic_related_manager", _read_related_manager),
    (_GENERIC, "GenericForeignKey.__get__", _read_generic),  # Django < 5.2
    (_GENERIC, "GenericForeignKeyDescriptor.__get__", _read_generic),
    ("django.db.transaction", "Atomic", read_atomic),
    ("django.db.transaction", "commit", _read_transaction),
    ("django.db.transaction", "rollback", _read_transaction),
    ("django.db.transaction", "savepoint", _read_transaction),
    ("django.db.transaction", "savepoint_rollback", _read_transaction),
    ("django.db.transaction", "savepoint_commit", _read_transaction),
    ("django.db.transaction", "set_autocommit", _read_transaction),
    ("django.shortcuts", "get_object_or_404", _read_shortcut),
    ("django.shortcuts", "get_list_or_404", _read_shortcut),
    ("django.core.cache.backends.base", "BaseCache", _named("cache")),
    ("django.core.cache.backends.db", "DatabaseCache", _named("cache")),
    ("django.contrib.sessions.backends.base", "SessionBase", _named("session", "request.session")),
    ("django.contrib.sessions.backends.db", "SessionStore", _named("session", "request.session")),
    ("django.contrib.auth", "get_user", _read_lazy_user),
    ("django.contrib.auth.middleware", "get_user", _read_lazy_user),
    ("django.contrib.auth", "authenticate", _named("auth")),
    ("django.contrib.auth", "login", _named("auth")),
    ("django.contrib.auth", "logout", _named("auth")),
    ("django.contrib.auth.models", "PermissionsMixin", _named("auth")),
    ("django.contrib.contenttypes.models", "ContentTypeManager", _read_content_type),
)
ACCESSES = (
    "forward_relation",
    "reverse_one_to_one",
    "related_manager",
    "many_to_many",
    "generic_relation",
    "deferred_field",
    "queryset",
    "instance_write",
    "instance_read",
    "validation",
    "transaction",
    "raw_sql",
    "connection",
    "lazy_user",
    "session",
    "auth",
    "content_type",
    "cache",
    "async_to_sync",
    "coroutine",
    "io",
    "other",
)
_unsafe_code: CodeType | None = None


def learn_frames() -> None:
    """Find the code objects of Django's accessors. Called at install, when the apps are loaded."""
    global _unsafe_code
    _unsafe_code = BaseDatabaseWrapper.cursor.__code__
    _learn(_unsafe_code, read_unsafe)
    for module, name, reader in _TABLE:
        for code in _codes_of(module, name):
            _learn(code, reader)


def learn(function: Any, reader: Reader) -> None:
    """Have *reader* read the frames of a function of ours that stands for one of Django's."""
    _learn(function.__code__, reader)


def _learn(code: CodeType, reader: Reader) -> None:
    known = code_of(code)
    known.reader = reader
    known.decides = reader in (_read_lazy_user, _read_prefetch)


def _codes_of(module: str, name: str) -> Iterator[CodeType]:
    """
    Yield a function's code and what is nested in it, or that of every function of a class.

    Not that of a decorator's wrapper: all that it decorates share it, and it has the wrong name.
    """
    try:
        found: Any = importlib.import_module(module)
    except (ImportError, RuntimeError):  # its models' app is not installed
        return
    for part in name.split("."):
        found = vars(found).get(part)
        if found is None:
            return  # this Django has no such thing
    functions = vars(found).values() if isinstance(found, type) else (found,)
    for each in functions:
        function = getattr(each, "__func__", each)
        function = getattr(function, "fget", None) or function
        if isinstance(function, FunctionType):
            yield from _nested(inspect.unwrap(function).__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _nested(const)
