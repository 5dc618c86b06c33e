"""``async_guard.started``: what a log should know of the process that writes to it."""

import asyncio
import os
import platform
import sys
from importlib.metadata import version

import django
import pytest
from django.test import override_settings

import async_guard
from async_guard.started import library_versions
from tests.delivery.process import STARTED, VALIDATOR, Project, hits_of, read_log
from tests.delivery.test_log import ONE_HIT, STRUCTLOG_JSON, printed
from tests.delivery.urls import swallow


def names_of(events):
    return [event["event"].removeprefix("async_guard.") for event in events]


def test_before_the_first_event(tmp_path):
    """
    The log begins with the versions, the settings and the seams, and tells them once.
    """
    path = tmp_path / "hits.jsonl"
    guard = {"LOG_FILE": path, "BURST": 2, "SERVICE_NAME": "shop", "ALLOWLIST": ["a.*"]}

    with override_settings(ASYNC_GUARD=guard), async_guard.guarded():
        asyncio.run(swallow(2))
        assert async_guard.flush()
        asyncio.run(swallow(2))

    started, *others = read_log(path)
    assert names_of(others) == ["hit", "hit", "summary"]
    expected = {
        "level": "info",
        "event": STARTED,
        "logger": "async_guard",
        "async_guard.version": async_guard.__version__,
        "async_guard.schema_version": "1.0",
        "async_guard.versions.django": django.get_version(),
        "async_guard.versions.asgiref": version("asgiref"),
        "async_guard.versions.structlog": version("structlog"),
        "async_guard.settings.burst": 2,
        "async_guard.settings.summary_interval_s": 60.0,
        "async_guard.settings.allowlist": ["a.*"],
        "async_guard.allow_async_unsafe": bool(os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")),
        "process.runtime.version": platform.python_version(),
        "process.pid": os.getpid(),
        "service.name": "shop",
    }
    assert started | expected == started
    assert {
        "django.utils.asyncio.os",
        "django.core.exceptions.SynchronousOnlyOperation.__init__",
        "asgiref.sync.AsyncToSync.__call__",
    } <= set(started["async_guard.seams"])
    assert not any("log_file" in key or "paths" in key for key in started)
    assert f"watches Django {django.get_version()} on " in started["message"]


def test_before_a_summary(tmp_path):
    """
    Where nothing is logged in full, the log begins before its first summary.
    """
    path = tmp_path / "hits.jsonl"

    async def handle():
        from django.contrib.auth.models import Group
        from django.core.exceptions import SynchronousOnlyOperation

        try:
            list(Group.objects.all())
        except SynchronousOnlyOperation:
            pass

    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        asyncio.run(handle())

    assert names_of(read_log(path)) == ["started", "summary"]


def test_silent_without_hits(project: Project):
    """
    A command that hits nothing writes nothing, and starts no thread.
    """
    body = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
assert async_guard.flush()
print(threading.active_count())
"""

    run = project.run(body, before="logging.basicConfig(level='DEBUG')")

    assert run.out == "1\n"
    assert "async_guard" not in run.err
    assert not project.log.exists()


def test_plain_logging_by_its_level(project: Project):
    """
    Plain logging shows it from level INFO on, as one readable line.
    """
    quiet = project.run(ONE_HIT)
    open_ears = project.run(ONE_HIT, before="logging.basicConfig(level='INFO')")

    assert "async_guard.started" not in quiet.err
    lines = [line for line in open_ears.err.splitlines() if "async_guard.started" in line]
    told = read_log(project.log)[0]["message"]
    assert lines == [f"INFO:async_guard:async_guard.started: {told}"]


def test_structlog_without_the_ids_of_a_request(project: Project):
    """
    It belongs to no request, whichever one it was that hit first.
    """
    body = f"""
import structlog
structlog.contextvars.bind_contextvars(request_id="r-1")
{ONE_HIT}
"""

    started, hit = printed(project.run(body, before=STRUCTLOG_JSON))

    VALIDATOR.validate(started)
    assert (started["event"], hit["request_id"]) == (STARTED, "r-1")
    assert "request_id" not in started


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_fork(project: Project):
    """
    A child begins its part of the log with a line of its own, if it has something to tell.
    """
    body = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
asyncio.run(swallow(2))
async_guard.flush()
for times in (0, 3):
    pid = os.fork()
    if pid == 0:
        asyncio.run(swallow(times))
        os._exit(0 if async_guard.flush() else 3)
    assert os.waitpid(pid, 0)[1] == 0
"""

    project.run(body)

    events = read_log(project.log)
    assert names_of(events) == ["started", "hit", "hit", "started", "hit", "hit", "hit"]
    pids = [event["process.pid"] for event in events]
    assert pids == [pids[0]] * 3 + [pids[3]] * 4
    assert pids[0] != pids[3]


def test_a_log_that_cannot_begin(project: Project):
    """
    Where the first line cannot be made, the hits are logged all the same.
    """
    body = """
import async_guard.courier

def fail(*args):
    raise RuntimeError

async_guard.courier.started_keys = fail
asyncio.run(swallow(2))
"""

    project.run(body)

    events = read_log(project.log)
    assert len(hits_of(events)) == 2
    assert STARTED not in {event["event"] for event in events}


def test_versions_of_what_is_installed(monkeypatch):
    """
    A library that is not installed is not named.
    """
    monkeypatch.setattr(
        "async_guard.started._LIBRARIES", {"django": "django", "strawberry": "no-such-thing"}
    )
    monkeypatch.setitem(sys.modules, "strawberry", None)

    assert library_versions() == {"django": django.get_version()}
