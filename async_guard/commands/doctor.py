"""``doctor``: what is installed, configured and patched, and what is odd."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from async_guard.hit import package_version

if TYPE_CHECKING:
    from async_guard.probe import Seam

HELP = "Tell what is installed, configured and patched, and what is odd."
CORE = ("django", "asgiref", "structlog")
WATCHED = ("strawberry-graphql", "strawberry-graphql-django", "graphql-core", "uvicorn")
OPTIONAL = {
    "libcst": "patches for what a log found (fix)",
    "greenlet": "AUTO_RETRY = 'resume' (resume)",
    "rich": "colours and a table in a terminal (report)",
    "msgspec": "reads dense logs faster (report)",
    "backports.zstd": "reads logs compressed with zstd (zstd)",
    "duckdb": "the sql command and Parquet (sql)",
    "distributed": "reads logs on several machines (cluster)",
}
ALLOW = "DJANGO_ALLOW_ASYNC_UNSAFE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace, out: TextIO) -> int:
    out.write("\n".join(_lines()) + "\n")
    return 0


def _lines() -> Iterator[str]:
    yield "Installed"
    yield f"  {'async-guard':<26} {package_version()}"
    yield f"  {'Python':<26} {platform.python_version()} ({sys.executable})"
    for name in (*CORE, *WATCHED):
        yield f"  {name:<26} {_version(name) or '-'}"
    for name, what in OPTIONAL.items():
        found = _version(name) or _in_standard_library(name)
        yield f"  {name:<26} {found or 'not installed'}: {what}"
    yield ""
    odd: list[str] = []
    if is_in_project():
        yield from _project(odd)
    else:
        yield "Configured"
        yield "  No Django project is loaded here: see manage.py async_guard doctor."
        yield ""
    yield "Odd"
    yield from [f"  {line}" for line in (*_environment(), *odd)] or ["  nothing"]


def _version(name: str) -> str:
    metadata = importlib.import_module("importlib.metadata")  # slow: not for other commands
    try:
        return str(metadata.version(name))
    except metadata.PackageNotFoundError:
        return ""


def _in_standard_library(name: str) -> str:
    is_there = name == "backports.zstd" and sys.version_info >= (3, 14)
    return "in the standard library" if is_there else ""


def is_in_project() -> bool:
    """Tell whether a project is loaded, without loading anything of Django's."""
    conf, apps = sys.modules.get("django.conf"), sys.modules.get("django.apps")
    return conf is not None and apps is not None and conf.settings.configured and apps.apps.ready


def _environment() -> Iterator[str]:
    if os.environ.get(ALLOW):
        yield f"{ALLOW} is set: async-unsafe calls block the loop instead of failing."
    if "PYTHONOPTIMIZE" in os.environ:
        yield "PYTHONOPTIMIZE is set: assertions do not run."


def _project(odd: list[str]) -> Iterator[str]:
    """Describe the project, and put into *odd* what its checks say."""
    from django.core.exceptions import ImproperlyConfigured

    from async_guard.settings import NAME, Settings, get_settings

    yield f"Configured ({NAME} in {os.environ.get('DJANGO_SETTINGS_MODULE', 'the settings')})"
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        yield "  cannot be read"
        odd.append(str(error))
        return
    defaults = Settings()
    for name in Settings.__slots__:
        value = getattr(settings, name)
        mark = "" if value == getattr(defaults, name) else "  (set)"
        yield f"  {name:<26} {value!r}{mark}"
    yield ""
    yield from _seams()
    odd += _checks()
    if settings.ENABLED and settings.LOG_FILE is None and _hides_summaries():
        odd.append(
            "The logger async_guard shows no level INFO, so async_guard.summary is not logged and "
            "counts are too low: set its level in LOGGING, or LOG_FILE."
        )


def _hides_summaries() -> bool:
    import structlog

    logger = logging.getLogger("async_guard")
    return not structlog.is_configured() and not logger.isEnabledFor(logging.INFO)


def _seams() -> Iterator[str]:
    from async_guard.checks import known_seams
    from async_guard.guard import installed
    from async_guard.probe import active
    from async_guard.retry.modes import OFF, switch

    is_installed = installed()
    yield f"Patched ({'the guard is installed' if is_installed else 'the guard is not installed'})"
    known = list(known_seams())
    yield from map(_seam, known)
    yield ""
    if switch.mode != OFF:
        yield f"Patched by AUTO_RETRY ({switch.mode})"
        watched = {(seam.owner, seam.name) for seam in known}
        yield from [_seam(seam) for seam in active if (seam.owner, seam.name) not in watched]
        yield f"  {'resolvers':<50} wrapped when a schema with the extension is first asked"
        yield ""


def _seam(seam: Seam) -> str:
    from async_guard.probe import MISSING, found

    there: Any = found(seam.owner, seam.name)
    state = "missing" if there is MISSING else _module_of(there)
    owner = getattr(seam.owner, "__qualname__", getattr(seam.owner, "__name__", "?"))
    return f"  {f'{owner}.{seam.name}':<50} {state}"


def _module_of(there: Any) -> str:
    """Return who made what is there; a wrapper's own module name is that of what it wraps."""
    scope = getattr(there, "__globals__", None)
    module = scope.get("__name__") if scope else type(there).__module__
    return "async_guard" if str(module).startswith("async_guard") else f"{module}'s own"


def _checks() -> list[str]:
    from async_guard.checks import check_async_guard

    return [
        f"{message.id}: {message.msg}{f' {message.hint}' if message.hint else ''}"
        for message in check_async_guard(None)
    ]
