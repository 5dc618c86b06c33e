"""Small projects of nothing but settings, each run by an interpreter of its own."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

import async_guard
from tests.counted import counted

ROOT = Path(async_guard.__file__).resolve().parent.parent
SCHEMA = Path(async_guard.__file__).parent / "schemas" / "event-1.0.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
STARTED = "async_guard.started"
ENVELOPE = {"timestamp", "level", "event", "logger"}

SETTINGS = {
    "SECRET_KEY": "only for tests",
    "ALLOWED_HOSTS": ["*"],
    "USE_TZ": True,
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "async_guard"],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    "MIDDLEWARE": ["async_guard.middleware.AsyncGuardMiddleware"],
    "ROOT_URLCONF": "project",
}

PROJECT = """\
import asyncio
import gc
import logging
import os
import sys
import threading
import time

import django
from django.conf import settings

{before}
if not settings.configured:
    settings.configure(**{settings!r})
django.setup()

import async_guard
from async_guard.guard import guard
from django.contrib.auth.models import Group, User


async def swallow(times=1):
    for _ in range(times):
        try:
            list(Group.objects.all())
        except Exception:
            pass


urlpatterns = []
{body}
"""


@dataclass(frozen=True)
class Run:
    """How a process ended, and what it printed."""

    code: int
    out: str
    err: str


class Project:
    """A project in a folder, with ``LOG_FILE`` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "hits.jsonl"
        self.is_counted = False
        """Its lines are counted: for what runs nowhere else, as it takes longer."""

    def write(
        self,
        body: str,
        *,
        before: str = "",
        guard: dict[str, Any] | None = None,
        name: str = "project.py",
        **settings: Any,
    ) -> Path:
        """Write the project's only module; *before* runs before Django is set up."""
        found = {**SETTINGS, "BASE_DIR": str(self.folder), **settings}
        found["ASYNC_GUARD"] = {"LOG_FILE": str(self.log), **(guard or {})}
        path = self.folder / name
        path.write_text(PROJECT.format(before=before, settings=found, body=body), "utf-8")
        return path

    def start(self, *command: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def environment(self, **env: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO", "COVERAGE"))}
        found = {**clean, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", **env}
        return {**found, **counted()} if self.is_counted else found

    def run(self, body: str, *, timeout: float = 60, **more: Any) -> Run:
        """Run the project to its end, which must be a normal one."""
        process = self.start(str(self.write(body, **more)))
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its children, too: they hold the pipes
            out, err = process.communicate()
            raise AssertionError(f"still running after {timeout} s:\n{out}\n{err}") from None
        assert process.returncode == 0, err
        return Run(process.returncode, out, err)

    def events(self, *, every: int = 1) -> list[dict[str, Any]]:
        """Return what the log file tells, see ``read_events``."""
        return read_events(self.log, every=every)

    def hits(self) -> list[dict[str, Any]]:
        return hits_of(self.events())


def read_events(path: Path, *, every: int = 1) -> list[dict[str, Any]]:
    """Return what a log file tells but for how it began, which ``test_started.py`` is about."""
    return [each for each in read_log(path, every=every) if each["event"] != STARTED]


def read_log(path: Path, *, every: int = 1) -> list[dict[str, Any]]:
    """Return the lines of a log file; every one, or one out of so many, must be valid."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("ascii")
    assert not text or text.endswith("\n")
    events = [json.loads(line) for line in text.splitlines()]
    for event in events[::every]:
        VALIDATOR.validate(event)
        assert event.keys() >= ENVELOPE
        json.dumps(event, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    return events


def total(events: list[dict[str, Any]]) -> int:
    """Return how many hits the events stand for."""
    return sum(event.get("async_guard.count", 0) for event in events)


def hits_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "async_guard.hit"]


def lines_by_event(events: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(event["event"] for event in events))


def without_envelope(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ENVELOPE}
