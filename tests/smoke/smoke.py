"""
Run the installed package in a project of nothing but settings: a hit must reach the file.

A plain script for an environment with the package and no extra: ``.ci/run smoke`` makes one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

OPTIONAL = {
    "strawberry",
    "strawberry_django",
    "graphql",
    "pytest",
    "opentelemetry",
    "libcst",
    "rich",
    "greenlet",
}


def run_project(log_file: str) -> None:
    """Be the project: one async function that reads the ORM."""
    import django
    from django.conf import settings
    from django.core.exceptions import SynchronousOnlyOperation

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "async_guard"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        ASYNC_GUARD={"LOG_FILE": log_file},
        USE_TZ=True,
    )
    django.setup()
    from django.contrib.auth.models import Group

    async def count_groups() -> int:
        return len(Group.objects.all())

    try:
        asyncio.run(count_groups())
    except SynchronousOnlyOperation:
        return
    sys.exit("Django let a synchronous query pass while the event loop ran.")


def check_imports() -> None:
    import async_guard

    if found := OPTIONAL & sys.modules.keys():
        sys.exit(f"`import async_guard` imports optional packages: {sorted(found)}.")
    if not Path(async_guard.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()):
        sys.exit(f"async_guard came from {async_guard.__file__}, not from the installed wheel.")
    print(f"async-guard {version('async-guard')} imports no optional package")


def check_hit() -> None:
    """Run the project in a process of its own, so that its end must write what is still queued."""
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "hits.jsonl"
        subprocess.run([sys.executable, "-I", __file__, str(log_file)], check=True, timeout=60)
        if not log_file.exists():
            sys.exit("The hit left no file at ASYNC_GUARD['LOG_FILE'].")
        check_report(log_file)
        events = [json.loads(line) for line in log_file.read_text("utf-8").splitlines()]
    hits = [event for event in events if event["event"] == "async_guard.hit"]
    if len(hits) != 1:
        sys.exit(f"Expected one async_guard.hit in the file, found {len(hits)} in {events}.")
    if not hits[0]["code.function.name"].endswith("count_groups"):
        sys.exit(f"The hit names {hits[0]['code.function.name']!r} instead of count_groups().")
    print(hits[0]["message"])


def check_report(log_file: Path) -> None:
    """Without any extra the report is plain text, and a page."""
    command = [str(Path(sys.executable).parent / "async-guard"), "report", str(log_file)]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    if "count_groups" not in done.stdout or "2 ours" not in done.stdout:
        sys.exit(f"async-guard report said {done.stdout!r}.")
    page = log_file.with_suffix(".html")
    subprocess.run([*command, "-o", str(page)], check=True, timeout=60)
    if "<script>" not in page.read_text("utf-8"):
        sys.exit("The HTML report has no script: its files are not in the package.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_project(sys.argv[1])
    else:
        check_imports()
        check_hit()
