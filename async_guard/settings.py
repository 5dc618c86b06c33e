"""``ASYNC_GUARD`` in the project's settings, as one frozen value."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

NAME = "ASYNC_GUARD"
FORCE = "force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a project may put in ``ASYNC_GUARD``. Every key has a default."""

    ENABLED: bool = True
    """Install the probe when Django starts. ``False``: nothing is patched."""

    LOG_FILE: str | None = None
    """Append every event to this file as one line of JSON, whatever the logging set-up."""

    LOG_HANDLED: bool = False
    """Log hits whose code catches ``SynchronousOnlyOperation`` by name. They are always counted."""

    BURST: int = 5
    """So many hits of a fingerprint are logged in full; later ones are counted."""

    SUMMARY_INTERVAL_S: float = 60.0
    """Seconds between two ``async_guard.summary`` of what was only counted."""

    MAX_FINGERPRINTS: int = 1000
    """So many fingerprints are remembered; the one seen longest ago makes room."""

    QUEUE_SIZE: int = 10_000
    """Events that may wait for a slow sink; what comes on top is counted as dropped."""

    N_PLUS_ONE_THRESHOLD: int = 5
    """Loads of one relation from one line within one operation that make a hit; 0: never."""

    EXPOSE_IN_RESPONSE: bool | str = False
    """List hits in the response's ``extensions.asyncGuard``; ``"force"``: even without DEBUG."""

    ALLOWLIST: tuple[str, ...] = ()
    """Never reported: fnmatch patterns over relation, model, path, ``path:line`` and function."""

    SINKS: tuple[str, ...] = ()
    """Dotted paths of callables that get the hits that are logged in full."""

    PROJECT_PATHS: tuple[str, ...] = ()
    """Folders that are the project's own code even where they look installed."""

    LIBRARY_PATHS: tuple[str, ...] = ()
    """Folders that are somebody else's code although they lie in the project."""

    AUTO_RETRY: str = "off"
    """``"rerun"`` or ``"resume"``: carry out in the worker thread what Django refuses."""

    RETRY_ALLOW: tuple[str, ...] = ()
    """Retry nothing else: patterns over ``Type.field`` and what ``ALLOWLIST`` knows."""

    RETRY_DENY: tuple[str, ...] = ()
    """Never retry: patterns as in ``RETRY_ALLOW``."""

    RETRY_BATCHING: bool = True
    """Load a relation for all objects of a hop with one query where that gives the same."""

    RETRY_HOP_SIZE: int = 1000
    """So many calls share one hop to the worker thread; the others wait for the next."""

    RETRY_QUEUE_SIZE: int = 10_000
    """Calls that may wait for a hop; what comes on top is refused, as without a retry."""

    RETRY_ROUTE_S: float = 300.0
    """Seconds for which a field that was retried goes to the worker thread at once."""

    RETRY_MAX_FAILURES: int = 5
    """So many failures in a row stop the retries of a fingerprint."""

    RETRY_BUDGET_S: float = 0.0
    """Seconds a minute that the retries of a fingerprint may take; 0: no limit."""

    RETRY_RESET_S: float = 30.0
    """Seconds after which retries that were stopped are tried again."""

    SERVICE_NAME: str | None = field(default_factory=lambda: os.environ.get("OTEL_SERVICE_NAME"))
    """``service.name`` of every event."""

    SERVICE_VERSION: str | None = None
    """``service.version`` of every event."""

    ENVIRONMENT: str | None = None
    """``deployment.environment.name`` of every event."""


KNOWN = {f.name for f in fields(Settings)}
_BOOLS = {"ENABLED", "LOG_HANDLED", "RETRY_BATCHING"}
_MODES = ("off", "rerun", "resume")
_LEAST = {
    "BURST": 1,
    "SUMMARY_INTERVAL_S": 0.1,
    "MAX_FINGERPRINTS": 1,
    "QUEUE_SIZE": 1,
    "N_PLUS_ONE_THRESHOLD": 0,
    "RETRY_HOP_SIZE": 1,
    "RETRY_QUEUE_SIZE": 0,
    "RETRY_ROUTE_S": 0,
    "RETRY_MAX_FAILURES": 1,
    "RETRY_BUDGET_S": 0,
    "RETRY_RESET_S": 0,
}
_SECONDS = {"SUMMARY_INTERVAL_S", "RETRY_ROUTE_S", "RETRY_BUDGET_S", "RETRY_RESET_S"}
_PATHS = {"LOG_FILE"}
_TEXTS = {"SERVICE_NAME", "SERVICE_VERSION", "ENVIRONMENT"}
_LISTS = {"ALLOWLIST", "RETRY_ALLOW", "RETRY_DENY", "SINKS", "PROJECT_PATHS", "LIBRARY_PATHS"}


def problems(raw: object) -> list[str]:
    """Say what is wrong with *raw*, a sentence each; the system check and the runtime share it."""
    if not isinstance(raw, Mapping):
        return [f"{NAME} must be a dict, not {type(raw).__name__}."]
    return [
        found
        for key, value in raw.items()
        if (found := _unknown(key) if key not in KNOWN else _wrong(key, value))
    ]


def _unknown(key: object) -> str:
    near = difflib.get_close_matches(str(key).upper(), KNOWN, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"{NAME} has no key {key!r}.{meant}"


def _wrong(key: str, value: object) -> str | None:
    wanted = _wanted(key, value)
    return wanted and f"{NAME}[{key!r}] must be {wanted}, not {value!r}."


def _wanted(key: str, value: object) -> str | None:
    """Return what *key* takes, or None if *value* is that."""
    if key in _BOOLS:
        return None if isinstance(value, bool) else "True or False"
    if key == "AUTO_RETRY":
        return None if value in _MODES else f"one of {', '.join(map(repr, _MODES))}"
    if key == "EXPOSE_IN_RESPONSE":
        fine = isinstance(value, bool) or value == FORCE
        return None if fine else f"True, False or {FORCE!r}"
    if key in _LEAST:
        return _wanted_number(_LEAST[key], value, whole=key not in _SECONDS)
    if key in _PATHS:
        fine = value is None or (isinstance(value, str | os.PathLike) and bool(os.fspath(value)))
        return None if fine else "a path or None"
    if key in _TEXTS:
        return None if value is None or isinstance(value, str) else "a text or None"
    fine = isinstance(value, list | tuple) and all(
        isinstance(item, str | os.PathLike) for item in value
    )
    return None if fine else "a list of texts"


def _wanted_number(least: float, value: object, *, whole: bool) -> str | None:
    types = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not value >= least:
        return f"a{' whole' if whole else ''} number, at least {least}"
    return None


def _normal(key: str, value: Any) -> Any:
    if key in _LISTS:
        return tuple(os.fspath(item) for item in value)
    if key in _PATHS and value is not None:
        return os.fspath(value)
    return value


@cache
def get_settings() -> Settings:
    """
    Return the project's settings.

    Raises:
        ImproperlyConfigured: with every problem that was found, a sentence each.
    """
    raw = getattr(django_settings, NAME, {})
    if found := problems(raw):
        raise ImproperlyConfigured(" ".join(found))
    return Settings(**{key: _normal(key, value) for key, value in raw.items()})


@receiver(setting_changed, dispatch_uid="async_guard.settings")
def _forget_settings(*, setting: str, **kwargs: object) -> None:
    if setting == NAME:
        get_settings.cache_clear()
