"""
Which Strawberry schemas the URLs serve by an asynchronous view.

Strawberry is not imported for it: where no URL has brought it into the process, none serves it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.urls import URLPattern, get_resolver

EXTENSION = "AsyncGuardExtension"
EXTENSIONS = "async_guard.integrations.strawberry"


class Served(NamedTuple):
    """A schema, and the first route that it is served at."""

    route: str
    schema: Any


def served_schemas() -> list[Served]:
    """Return each schema once; none if the URLs cannot be read, which is Django's own finding."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    try:
        found = list(_served(get_resolver().url_patterns, ""))
    except Exception:  # the project's URLs may raise anything
        return []
    return list({id(each.schema): each for each in reversed(found)}.values())[::-1]


def _served(patterns: Iterable[Any], prefix: str) -> Iterator[Served]:
    for each in patterns:
        route = f"{prefix}{each.pattern}"
        if not isinstance(each, URLPattern):
            yield from _served(each.url_patterns, route)
        elif (schema := _schema_of(each.callback)) is not None:
            yield Served(route, schema)


def _schema_of(callback: Any) -> Any:
    """Return what an ``AsyncGraphQLView`` answers from; decorators pass on what tells it."""
    base = getattr(sys.modules.get("strawberry.django.views"), "AsyncGraphQLView", None)
    view = getattr(callback, "view_class", None)
    if base is None or not isinstance(view, type) or not issubclass(view, base):
        return None
    return getattr(callback, "view_initkwargs", {}).get("schema") or getattr(view, "schema", None)


def lacks_extension(schema: Any) -> bool:
    """Tell whether *schema* surely has no ``AsyncGuardExtension``."""
    ours = getattr(sys.modules.get(EXTENSIONS), EXTENSION, None)
    extensions = getattr(schema, "extensions", None)
    if not isinstance(extensions, list | tuple):
        return False
    return not any(_may_be(each, ours) for each in extensions)


def _may_be(extension: Any, ours: type | None) -> bool:
    """Tell whether *extension* is or may make one of *ours*: a factory is not called to see."""
    if not isinstance(extension, type):
        kind = type(extension)
        if not hasattr(kind, "on_operation"):
            return True
        extension = kind
    return ours is not None and issubclass(extension, ours)
