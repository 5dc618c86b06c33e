"""What a log should know of the process that writes to it: versions, settings, seams."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from async_guard.hit import SCHEMA_VERSION, package_version
from async_guard.probe import ALLOW
from async_guard.settings import Settings

_LIBRARIES = {
    "django": "django",
    "asgiref": "asgiref",
    "structlog": "structlog",
    "graphql_core": "graphql-core",
    "strawberry": "strawberry-graphql",
    "strawberry_django": "strawberry-graphql-django",
}
_NAMED = {
    "SERVICE_NAME": "service.name",
    "SERVICE_VERSION": "service.version",
    "ENVIRONMENT": "deployment.environment.name",
}
_UNTOLD = {"LOG_FILE", "PROJECT_PATHS", "LIBRARY_PATHS", *_NAMED}
"""Where things lie on this machine, and what has a key of its own."""


def started_keys(settings: Settings, seams: Iterable[str]) -> dict[str, Any]:
    """Return the keys of ``async_guard.started``. Reads files, so not where a request waits."""
    versions = library_versions()
    name, version = sys.implementation.name, platform.python_version()
    keys: dict[str, Any] = {
        "message": f"async_guard {package_version()} watches Django {versions['django']} "
        f"on {platform.python_implementation()} {version}.",
        "async_guard.schema_version": SCHEMA_VERSION,
        "async_guard.version": package_version(),
        "process.pid": os.getpid(),
        "process.runtime.name": name,
        "process.runtime.version": version,
        "async_guard.seams": list(seams),
        "async_guard.allow_async_unsafe": bool(os.environ.get(ALLOW)),
    }
    keys |= {f"async_guard.versions.{library}": found for library, found in versions.items()}
    keys |= {_NAMED[name]: value for name in _NAMED if (value := getattr(settings, name))}
    told = (each.name for each in fields(settings) if each.name not in _UNTOLD)
    return keys | {
        f"async_guard.settings.{name.lower()}": _plain(getattr(settings, name)) for name in told
    }


def library_versions() -> dict[str, str]:
    """Return the versions of what is installed of the libraries that are watched or used."""
    found = {}
    for name, distribution in _LIBRARIES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = str(getattr(sys.modules.get(name), "__version__", ""))
    return {name: version for name, version in found.items() if version}


def _plain(value: Any) -> Any:
    """Return *value* as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
