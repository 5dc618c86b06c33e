"""The Django app: what happens when a process starts."""

import pytest

from tests.delivery.process import Project

ASK = """
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
import httpx

async def view(request):
    await swallow()
    return HttpResponse("fine")

urlpatterns = [path("", view)]
sys.modules["project"] = sys.modules["__main__"]

async def main():
    transport = httpx.ASGITransport(get_asgi_application())
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        print((await client.get("/")).text, async_guard.installed())

asyncio.run(main())
"""
ORIGINALS = """
import asgiref.sync
import django.utils.asyncio
import django.db.models.query
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import got_request_exception
from django.db.backends.base.base import BaseDatabaseWrapper

def originals():
    return [
        django.utils.asyncio.os is os,
        "__init__" in vars(SynchronousOnlyOperation),
        "__del__" in vars(SynchronousOnlyOperation),
        asgiref.sync.AsyncToSync.__call__.__module__,
        django.db.models.query.ModelIterable.__iter__.__module__,
        hasattr(django.db.models.query.ModelIterable.__iter__, "__wrapped__"),
        hasattr(ContentType.get_object_for_this_type, "__wrapped__"),
        got_request_exception.receivers,
        [signal.getsignal(number) for number in SIGNALS] == HANDLERS,
        [thread.name for thread in threading.enumerate()],
    ]

print(originals(), async_guard.installed())
"""
ORIGINALS_BUT_ROWS = """
import django.utils.asyncio
from django.core.exceptions import SynchronousOnlyOperation

touched = {"__init__", "__del__"} & vars(SynchronousOnlyOperation).keys()
print(async_guard.installed(), django.utils.asyncio.os is os, bool(touched))
"""
HANDLERS = """
import signal
SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANDLERS = [signal.getsignal(number) for number in SIGNALS]
"""
UNTOUCHED = (
    "[True, False, False, 'asgiref.sync', 'django.db.models.query', False, False, [],"
    " True, ['MainThread']] False\n"
)


def test_disabled_patches_nothing(project: Project):
    """
    With ENABLED = False every attribute of Django's is its own.
    """
    run = project.run(ORIGINALS, before=HANDLERS, guard={"ENABLED": False})

    assert run.out == UNTOUCHED


def test_installed_at_start(project: Project):
    """
    Without any setting the guard is in place once Django is set up, and no thread runs yet.
    """
    run = project.run("print(async_guard.installed(), threading.active_count())")

    assert run.out == "True 1\n"


def test_requests_with_a_disabled_guard(project: Project):
    """
    The middleware stays out of the way where the guard is off.
    """
    run = project.run(ASK, guard={"ENABLED": False})

    assert run.out == "fine False\n"
    assert project.events() == []


def test_disabled_guard_can_watch_a_block(project: Project):
    """
    guarded() watches whatever ENABLED says, and leaves everything as it was.
    """
    body = f"""
with async_guard.guarded():
    asyncio.run(swallow(3))
{ORIGINALS}
"""

    run = project.run(body, before=HANDLERS, guard={"ENABLED": False})

    assert run.out == UNTOUCHED
    assert len(project.hits()) == 3


@pytest.mark.parametrize(
    "guard, sentence",
    [
        ({"BRUST": 1}, "ASYNC_GUARD has no key 'BRUST'. Did you mean 'BURST'?"),
        ({"BURST": "5"}, "ASYNC_GUARD['BURST'] must be a whole number, at least 1, not '5'."),
        ({"SINKS": ["nowhere.sink"]}, "No module named 'nowhere'"),
        ({"SINKS": ["failing_sinks.sink"]}, "no configuration"),
    ],
    ids=["key", "value", "sink", "failing sink"],
)
def test_bad_settings_at_start(project: Project, guard, sentence):
    """
    With bad settings the server starts and answers, unwatched, and the log has the error.
    """
    failing = project.folder / "failing_sinks.py"
    failing.write_text("raise ValueError('no configuration')\n")

    run = project.run(ASK, guard=guard)

    assert run.out == "fine False\n"
    assert run.err.startswith("async_guard is not installed: ")
    assert sentence in run.err


def test_settings_that_are_no_dict(project: Project):
    """
    Even ASYNC_GUARD = None starts, with an error in the log.
    """
    before = f"""
settings.configure(
    INSTALLED_APPS={["django.contrib.contenttypes", "django.contrib.auth", "async_guard"]!r},
    ASYNC_GUARD=None,
)
"""

    run = project.run("print(async_guard.installed())", before=before)

    assert run.out == "False\n"
    assert run.err.startswith("async_guard is not installed: ")
    assert run.err.endswith("ASYNC_GUARD must be a dict, not NoneType.\n")


def test_missing_seam_at_start(project: Project):
    """
    On a Django that lacks a seam the server starts, nothing is patched, and the log says so.
    """
    (project.folder / "without_seam.py").write_text(
        "from django.apps import AppConfig\n"
        "class WithoutSeam(AppConfig):\n"
        "    name = 'without_seam'\n"
        "    def ready(self):\n"
        "        from django.db.models.query import ModelIterable\n"
        "        del ModelIterable.__iter__\n"
    )
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "without_seam.WithoutSeam"]

    run = project.run(ORIGINALS_BUT_ROWS, INSTALLED_APPS=[*apps, "async_guard"])

    assert run.out == "False True False\n"
    assert "ModelIterable.__iter__ is gone, so async_guard watches nothing." in run.err
