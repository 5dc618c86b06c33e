"""What holds for every test: Django holds its own functions again, events fit the schema."""

import json
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import asgiref.sync
import django.utils.asyncio
import greenlet
import hypothesis
import jsonschema
import pytest
import structlog
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import got_request_exception
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query import ModelIterable
from django.views.debug import ExceptionReporter

import async_guard
from async_guard import origin
from async_guard.sinks import LogSink

# How long an example takes is the machine's business, which others may be using.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def keep_greenlets_of_threads() -> None:
    """
    Have no greenlet die with its thread while coverage watches.

    Greenlet lets it go in a pending call; coverage has a weak reference to it, with a callback; and
    CPython 3.11 never ends a traced function that is called in a pending call.

    Nor may greenlet look for who keeps them: it imports ``gc`` for that in whatever runs at the
    moment, and a namedtuple's ``__new__`` has no ``__import__``.
    """
    kept: list[Any] = []
    greenlet._greenlet.enable_optional_cleanup(False)
    set_ident = vars(threading.Thread)["_set_ident"]  # the first that a thread does, and no more

    def set_and_keep(thread: threading.Thread) -> None:
        kept.append(greenlet.getcurrent())
        set_ident(thread)

    setattr(threading.Thread, "_set_ident", set_and_keep)  # noqa: B010  it has no type


if sys.version_info < (3, 12) and sys.gettrace() is not None:
    keep_greenlets_of_threads()


def the_originals() -> dict[str, Any]:
    """Return every object of Django's and asgiref's that the probe may replace."""
    closures = {
        name: method.__closure__[0].cell_contents
        for name, method in vars(BaseDatabaseWrapper).items()
        if getattr(method, "__closure__", None)
    }
    return {
        "os": vars(django.utils.asyncio)["os"],
        "refusal": dict(vars(SynchronousOnlyOperation)),
        "async_to_sync": vars(asgiref.sync.AsyncToSync)["__call__"],
        "rows": vars(ModelIterable)["__iter__"],
        "error page": vars(ExceptionReporter)["get_traceback_data"],
        "generic rows": vars(ContentType)["get_object_for_this_type"],
        "receivers": list(got_request_exception.receivers),
        **closures,
    }


@pytest.fixture(autouse=True)
def django_holds_its_own() -> Iterator[None]:
    """The test that leaks fails, not the next one."""
    structlog.reset_defaults()  # whatever a test configured
    origin.current.set(None)  # a stream that a test broke off leaves its operation in the context
    before = the_originals()
    assert not async_guard.installed()

    yield

    assert not async_guard.installed()
    assert the_originals() == before


@pytest.fixture(autouse=True)
def events_fit_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of every test is what the schema in the package says."""
    validator = the_validator()
    note = LogSink.note

    def checked(sink: LogSink, event: str, level: str, keys: dict[str, Any]) -> None:
        envelope = {"timestamp": "2026-01-01T00:00:00.000000Z", "level": level, "event": event}
        try:
            validator.validate({**envelope, **keys})
        except jsonschema.ValidationError as error:
            BAD_EVENTS.append(error.message)
        note(sink, event, level, keys)

    monkeypatch.setattr(LogSink, "note", checked)


@pytest.fixture(autouse=True)
def no_bad_events() -> Iterator[None]:
    """A sink's errors never reach a test, so they are collected."""
    yield
    bad, BAD_EVENTS[:] = list(BAD_EVENTS), []
    assert bad == []


BAD_EVENTS: list[str] = []


@cache
def the_validator() -> jsonschema.Draft202012Validator:
    path = Path(async_guard.__file__).parent / "schemas" / "event-1.0.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text("utf-8")))


@pytest.fixture
def hectic() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
