"""Problems with the set-up, as Django's system checks (``manage.py check``)."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from async_guard.errors import SeamMissing
from async_guard.graphql_views import EXTENSION, EXTENSIONS, lacks_extension, served_schemas
from async_guard.probe import ALLOW, MISSING, Probe, Seam, found
from async_guard.retry.modes import OFF, RERUN, RESUME
from async_guard.settings import NAME, get_settings, problems

MIDDLEWARE = "async_guard.middleware.AsyncGuardMiddleware"
_BELOW = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)
_AT_LEAST = {"strawberry-graphql": (0, 240), "strawberry-graphql-django": (0, 60)}


@register("async_guard")
def check_async_guard(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Return everything that is wrong or odd with the set-up."""
    found: list[CheckMessage] = list(_check_settings())
    if found:
        return found
    if not get_settings().ENABLED:
        return []
    return [
        *_check_seams(),
        *_check_sinks(),
        *_check_retry(),
        *_check_exposure(),
        *_check_paths(),
        *_check_middleware(),
        *_check_environment(),
        *_check_asgi(),
        *_check_schemas(),
        *_check_versions(),
    ]


def _check_settings() -> Iterator[CheckMessage]:
    for sentence in problems(getattr(django_settings, NAME, {})):
        yield Error(sentence, id="async_guard.E001")


def _check_seams() -> Iterator[CheckMessage]:
    try:
        for seam in known_seams():
            if not seam.optional and found(seam.owner, seam.name) is MISSING:
                yield Error(str(SeamMissing(seam.owner, seam.name)), id="async_guard.E002")
    except ImportError as error:
        yield Error(f"async_guard cannot find what it watches: {error}", id="async_guard.E002")


def known_seams() -> Iterable[Seam]:
    """Return what the probe replaces, or would."""
    return Probe(_Nobody()).seams()


class _Nobody:
    """A listener that is never called: only the table of seams is read."""

    def refused(self, error: BaseException) -> None: ...

    def died(self, error: BaseException) -> None: ...

    def allowed(self) -> None: ...

    def loaded(self, queryset: Any) -> None: ...


def _check_sinks() -> Iterator[CheckMessage]:
    settings = get_settings()
    for path in settings.SINKS:
        try:
            sink = import_string(path)
        except Exception as error:  # its module may raise anything
            yield Error(f"{NAME}['SINKS'] names {path!r}: {error}.", id="async_guard.E003")
        else:
            if not callable(sink):
                yield Error(f"{NAME}['SINKS']: {path} is not callable.", id="async_guard.E003")
    if settings.LOG_FILE is not None and not _is_writable(settings.LOG_FILE):
        yield Error(
            f"{NAME}['LOG_FILE']: {settings.LOG_FILE} cannot be written.",
            hint="Name a file in a folder that the server's user may write.",
            id="async_guard.E004",
        )


def _is_writable(path: str) -> bool:
    if "\0" in path:
        return False
    if os.path.exists(path):
        return not os.path.isdir(path) and os.access(path, os.W_OK)
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _check_retry() -> Iterator[CheckMessage]:
    if get_settings().AUTO_RETRY == RESUME and importlib.util.find_spec("greenlet") is None:
        yield Error(
            f"{NAME}['AUTO_RETRY'] = {RESUME!r} needs greenlet, which is not installed.",
            hint="pip install 'async-guard[resume]'",
            id="async_guard.E005",
        )

    settings = get_settings()
    for name in ("RETRY_ALLOW", "RETRY_DENY"):
        if settings.AUTO_RETRY == OFF and getattr(settings, name):
            yield Warning(
                f"{NAME}[{name!r}] does nothing while AUTO_RETRY is {OFF!r}.",
                hint=f"Set AUTO_RETRY to {RERUN!r} or {RESUME!r}, or remove {name}.",
                id="async_guard.W009",
            )


def _check_exposure() -> Iterator[CheckMessage]:
    if get_settings().EXPOSE_IN_RESPONSE is True and not django_settings.DEBUG:
        yield Warning(
            f"{NAME}['EXPOSE_IN_RESPONSE'] does nothing while DEBUG is off.",
            hint="It shows file names to clients. Set it to 'force' if that is meant.",
            id="async_guard.W005",
        )


def _check_paths() -> Iterator[CheckMessage]:
    for name in ("PROJECT_PATHS", "LIBRARY_PATHS"):
        for path in getattr(get_settings(), name):
            if not os.path.isdir(path):
                near = _nearest_folder(path)
                yield Warning(
                    f"{NAME}[{name!r}] names {path}, which is no folder, so no code is in it.",
                    hint=f"Did you mean {near}?" if near else f"Mend it, or remove it from {name}.",
                    id="async_guard.W008",
                )


def _nearest_folder(path: str) -> str | None:
    """Return a folder whose name is like that of *path*."""
    parent, name = os.path.split(os.path.abspath(path))
    try:
        folders = [each.name for each in os.scandir(parent) if each.is_dir()]
    except OSError:
        return None
    near = difflib.get_close_matches(name, folders, n=1)
    return os.path.join(parent, near[0]) if near else None


def _check_middleware() -> Iterator[CheckMessage]:
    middleware = list(django_settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        yield Warning(
            f"{MIDDLEWARE} is not in MIDDLEWARE: hits name no request.",
            hint="Add it as the first.",
            id="async_guard.W001",
        )
        return
    if middleware.count(MIDDLEWARE) > 1:
        yield Warning(
            f"{MIDDLEWARE} is in MIDDLEWARE {middleware.count(MIDDLEWARE)} times.",
            hint="Leave only the first.",
            id="async_guard.W010",
        )
    above = middleware[: middleware.index(MIDDLEWARE)]
    if wrong := [name for name in _BELOW if name in above]:
        yield Warning(
            f"{MIDDLEWARE} stands below {wrong[0]}, so it sees nothing of that one's hits.",
            hint="Move it to the top of MIDDLEWARE.",
            id="async_guard.W002",
        )


def _check_environment() -> Iterator[CheckMessage]:
    if os.environ.get(ALLOW):
        yield Warning(
            f"{ALLOW} is set: async-unsafe calls block the event loop instead of failing.",
            hint="Unset it; async_guard reports each such call as blocking_orm.",
            id="async_guard.W003",
        )


def _check_asgi() -> Iterator[CheckMessage]:
    if getattr(django_settings, "ASGI_APPLICATION", None):
        return
    wsgi = getattr(django_settings, "WSGI_APPLICATION", None) or ""
    package = wsgi.split(".", 1)[0]
    if package and not _exists(f"{wsgi.rsplit('.', 2)[0]}.asgi"):
        yield Warning(
            "The project only has a WSGI application: no event loop runs, so there are no hits.",
            hint="Serve it by ASGI (asgi.py, ASGI_APPLICATION), or set ENABLED to False.",
            id="async_guard.W004",
        )


def _check_schemas() -> Iterator[CheckMessage]:
    for route, schema in served_schemas():
        if lacks_extension(schema):
            yield Warning(
                f"The schema served at {route or '/'} has no {EXTENSION}: its hits name no "
                "operation, and how they ended may be told wrongly.",
                hint=f"Add it: strawberry.Schema(…, extensions=[{EXTENSION}]), with "
                f"from {EXTENSIONS} import {EXTENSION}.",
                id="async_guard.W007",
            )


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _check_versions() -> Iterator[CheckMessage]:
    for name, least in _AT_LEAST.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < least:
            wanted = ".".join(map(str, least))
            yield Warning(
                f"{name} {version} is older than {wanted}, the oldest that async_guard knows.",
                hint=f"pip install --upgrade {name}",
                id="async_guard.W006",
            )
