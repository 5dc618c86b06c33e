"""What holds for every test: Django holds its own functions again, events fit the schema."""

from collections.abc import Iterator
from typing import Any

import asgiref.sync
import django.utils.asyncio
import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import got_request_exception
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query import ModelIterable


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
        "receivers": list(got_request_exception.receivers),
        **closures,
    }


@pytest.fixture(autouse=True)
def django_holds_its_own() -> Iterator[None]:
    """The test that leaks fails, not the next one."""
    import async_guard

    before = the_originals()
    assert not async_guard.installed()

    yield

    assert not async_guard.installed()
    assert the_originals() == before
