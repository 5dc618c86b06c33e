"""``FileSink``: JSON lines in a file that processes and log rotation share."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.template import Context, Engine
from django.test import override_settings

import async_guard
from async_guard.hit import Hit
from async_guard.sinks import FileSink
from tests.delivery.process import (
    Project,
    lines_by_event,
    read_events,
    total,
    without_envelope,
)

A_HIT = Hit(
    message="Said.",
    version="0.1.0",
    hit_id="0" * 32,
    fingerprint="f" * 16,
    rule="AG101",
    function="app.view",
    path="app.py",
    line=1,
)


async def swallow():
    try:
        list(Group.objects.all())
    except Exception:
        return "swallowed"


def test_one_write_per_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Every event is one write of one whole line, whatever its size.
    """
    written = []
    write = os.write

    def spy(file: int, data: bytes) -> int:
        written.append(data)
        return write(file, data)

    monkeypatch.setattr(os, "write", spy)
    frames = ({"function": "f" * 10_000, "file": "app.py", "line": 1, "in_app": True},) * 30
    sink = FileSink(str(tmp_path / "hits.jsonl"))

    sink(A_HIT)
    sink(Hit(**{name: getattr(A_HIT, name) for name in A_HIT.__slots__} | {"frames": frames}))
    sink.close()

    monkeypatch.undo()
    assert [line.count(b"\n") for line in written] == [1, 1]
    assert b"".join(written) == (tmp_path / "hits.jsonl").read_bytes()
    assert len(read_events(tmp_path / "hits.jsonl")) == 2


def test_appended(tmp_path: Path):
    """
    What stands in the file already stays there, and missing folders are made.
    """
    path = tmp_path / "var" / "log" / "hits.jsonl"
    for _ in range(2):
        sink = FileSink(str(path))
        sink(A_HIT)
        sink.close()

    events = read_events(path)

    assert [without_envelope(event) for event in events] == [A_HIT.to_dict()] * 2
    assert {event["logger"] for event in events} == {"async_guard"}


@pytest.mark.parametrize("rotate", ["rename", "remove", "remove the folder"])
def test_reopened_after_rotation(tmp_path: Path, rotate: str):
    """
    Once the file was renamed or removed, the next event is in a new one.
    """
    path = tmp_path / "log" / "hits.jsonl"
    kept = tmp_path / "hits.jsonl.1"
    sink = FileSink(str(path))
    sink(A_HIT)

    path.rename(kept)
    if rotate != "rename":
        kept.unlink()
    if rotate == "remove the folder":
        path.parent.rmdir()
    sink(A_HIT)
    sink(A_HIT)
    sink.close()

    assert len(read_events(path)) == 2
    assert len(read_events(kept)) == (1 if rotate == "rename" else 0)


def test_full_envelope_of_a_real_hit(tmp_path: Path):
    """
    A real hit is one valid line with the whole envelope.
    """
    path = tmp_path / "hits.jsonl"
    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        from asgiref.sync import async_to_sync

        assert async_to_sync(swallow)() == "swallowed"

    [event] = read_events(path)
    envelope = {key: event[key] for key in ("level", "event", "logger")}
    assert envelope == {"level": "error", "event": "async_guard.hit", "logger": "async_guard"}
    assert event["timestamp"].endswith("Z") and len(event["timestamp"]) == 27


@pytest.mark.parametrize("kind", ["below a file", "a folder"])
def test_unwritable_file(project: Project, kind: str):
    """
    A file that cannot be written is told of once, and the log gets every hit all the same.
    """
    (project.folder / "file").write_text("")
    path = project.folder / "file" / "hits.jsonl" if kind == "below a file" else project.folder

    run = project.run("asyncio.run(swallow(3))", guard={"LOG_FILE": str(path)})

    assert run.err.count("async_guard.hit:") == 3
    assert run.err.count("async_guard.sink_failed") == 1


def test_processes_share_a_file(project: Project):
    """
    Four processes that write 500 events each tear no line.
    """
    script = project.write("asyncio.run(swallow(500))", guard={"BURST": 1000})
    running = [project.start(str(script)) for _ in range(4)]
    for process in running:
        process.communicate(timeout=60)

    events = project.events()

    assert [process.returncode for process in running] == [0] * 4
    assert lines_by_event(events) == {"async_guard.hit": 2000}
    assert len({event["async_guard.hit_id"] for event in events}) == 2000
    assert total(events) == 2000


# --- names that are no Unicode -------------------------------------------------------------------

LATIN = os.fsdecode(b"caf\xe9")
SOURCE = """
async def swallow(model):
    try:
        return list(model.objects.filter(name="{odd}"))
    except Exception:
        return "swallowed"
"""


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cafe", LATIN], ids=["file", "module"])
def test_lone_surrogates_in_file_and_module_names(tmp_path: Path, name: str):
    """
    A module whose file name is no UTF-8 hits like any other, in valid JSON.
    """
    from asgiref.sync import async_to_sync

    source = tmp_path / f"{LATIN}.py"
    source.write_text(SOURCE.format(odd="a"))
    path = tmp_path / "hits.jsonl"
    module = load(name, source)

    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        assert async_to_sync(module.swallow)(Group) == "swallowed"

    [event] = read_events(path)
    assert event["code.file.path"].endswith(r"caf\udce9.py")


def test_lone_surrogates_in_source(tmp_path: Path):
    """
    An expression with a lone surrogate in its text is told in valid JSON.
    """
    import linecache

    from asgiref.sync import async_to_sync

    filename = str(tmp_path / "generated.py")
    text = SOURCE.format(odd="\udce9")
    code = compile(SOURCE.format(odd="e"), filename, "exec")
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    scope = {"__name__": "generated"}
    exec(code, scope)
    path = tmp_path / "hits.jsonl"

    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        assert async_to_sync(scope["swallow"])(Group) == "swallowed"

    [event] = read_events(path)
    assert event["async_guard.code.text"].startswith("list(model.objects.filter(name=")


def test_lone_surrogates_in_template_names(tmp_path: Path):
    """
    A template whose file name is no UTF-8 is told in valid JSON.
    """
    from asgiref.sync import async_to_sync

    (tmp_path / f"{LATIN}.html").write_text("{% for group in groups %}{{ group }}{% endfor %}")
    engine = Engine(dirs=[str(tmp_path)])
    path = tmp_path / "hits.jsonl"

    async def render():
        try:
            engine.get_template(f"{LATIN}.html").render(Context({"groups": Group.objects.all()}))
        except Exception:
            return "swallowed"

    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        assert async_to_sync(render)() == "swallowed"

    [event] = read_events(path)
    assert event["code.file.path"].endswith(r"caf\udce9.html")


def test_lone_surrogates_in_a_task_name(tmp_path: Path):
    """
    A task whose name is no Unicode is told in valid JSON.
    """
    import asyncio

    path = tmp_path / "hits.jsonl"

    async def main():
        return await asyncio.create_task(swallow(), name=LATIN)

    with override_settings(ASYNC_GUARD={"LOG_FILE": path}), async_guard.guarded():
        assert asyncio.run(main()) == "swallowed"

    [event] = read_events(path)
    assert event["async_guard.task"] == r"caf\udce9"


def test_everything_is_ascii(tmp_path: Path):
    """
    The file is ASCII whatever the hit says, so that every tool can read it.
    """
    path = tmp_path / "hits.jsonl"
    odd = "é\u2028\x00\x1b\n😀"
    sink = FileSink(str(path))

    sink(Hit(**{name: getattr(A_HIT, name) for name in A_HIT.__slots__} | {"text": odd}))
    sink.close()

    [line] = path.read_bytes().splitlines()
    assert line.isascii()
    assert json.loads(line)["async_guard.code.text"] == odd


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_file_may_be_the_standard_output(project: Project):
    """
    In a container the file may be /dev/stdout, and the checks agree.
    """
    body = """
from django.core.management import call_command
call_command("check", tags=["async_guard"])
asyncio.run(swallow())
"""

    run = project.run(body, guard={"LOG_FILE": "/dev/stdout"}, ASGI_APPLICATION="project.app")

    assert '"event": "async_guard.hit"' in run.out
