"""
Runtime async-safety detection for Django.

The names are loaded when they are used: importing the package imports neither the ORM nor the
project's settings, so that it may stand in ``INSTALLED_APPS`` and in a pytest plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from async_guard.deaf import allow_unsafe
    from async_guard.errors import AsyncGuardError
    from async_guard.guard import flush, install, installed, totals, uninstall
    from async_guard.hit import Hit
    from async_guard.retry.guarded import guarded
    from async_guard.retry.modes import retrying, set_auto_retry
    from async_guard.retry.policy import no_retry, retry_safe
    from async_guard.retry.routes import routes

    __version__: str

__all__ = [
    "AsyncGuardError",
    "Hit",
    "__version__",
    "allow_unsafe",
    "flush",
    "guarded",
    "install",
    "installed",
    "no_retry",
    "retry_safe",
    "retrying",
    "routes",
    "set_auto_retry",
    "totals",
    "uninstall",
]
_HOMES = {
    "AsyncGuardError": "errors",
    "Hit": "hit",
    "allow_unsafe": "deaf",
    "guarded": "retry.guarded",
    "no_retry": "retry.policy",
    "retry_safe": "retry.policy",
    "retrying": "retry.modes",
    "routes": "retry.routes",
    "set_auto_retry": "retry.modes",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("async_guard.hit").package_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"async_guard.{_HOMES.get(name, 'guard')}"), name)
