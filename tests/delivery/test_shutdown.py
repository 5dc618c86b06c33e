"""``ShutdownSignal``: a server that is told to end has told of every hit."""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import httpx
import pytest

from async_guard.shutdown import ShutdownSignal
from tests.delivery.process import Project, lines_by_event, total

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SITE = """
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

async def view(request, times):
    await swallow(times)
    return HttpResponse(str(os.getpid()))

async def late(request):
    await asyncio.sleep(3.0)
    await swallow(40)
    return HttpResponse("late")

urlpatterns = [path("hit/<int:times>/", view), path("late/", late)]
app = get_asgi_application()
"""
PROGRAMMATIC = """
if __name__ == "__main__":
    import uvicorn
    sys.modules["project"] = sys.modules["__main__"]
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def uvicorn_command(port: int, *more: str) -> list[str]:
    command = ["-m", "uvicorn", "project:app", "--port", str(port), "--log-level", "warning"]
    return [*command, *more]


def wait_for(url: str) -> None:
    for _ in range(150):
        try:
            httpx.get(f"{url}/hit/0/")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def serve(
    project: Project,
    number: signal.Signals,
    *command: str,
    port: int,
    late: bool = False,
    **env: str,
):
    """Start a server, have 20 requests hit 7 times each, and end it by a signal."""
    url = f"http://127.0.0.1:{port}"
    server = project.start(*command, **env)
    try:
        wait_for(url)
        pids = {httpx.get(f"{url}/hit/7/").text for _ in range(20)}
        if late:
            thread = threading.Thread(target=lambda: httpx.get(f"{url}/late/", timeout=20))
            thread.start()
            time.sleep(1.5)  # until the request has arrived
        server.send_signal(number)
        _, err = server.communicate(timeout=20)
        if late:
            thread.join()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
    return pids, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn(project: Project, number: signal.Signals):
    """
    When uvicorn is told to end, every hit of every request is in the log.
    """
    project.write(SITE)
    port = free_port()

    serve(project, number, *uvicorn_command(port), port=port)

    events = project.events()
    assert lines_by_event(events) == {"async_guard.hit": 5, "async_guard.summary": 1}
    assert total(events) == 140


def test_uvicorn_with_two_workers(project: Project):
    """
    With two workers each tells of its own hits, and together they tell of all.
    """
    project.write(SITE)
    port = free_port()

    pids, _ = serve(project, signal.SIGTERM, *uvicorn_command(port, "--workers", "2"), port=port)

    events = project.events()
    found = {str(each["process.pid"]) for each in events if "process.pid" in each}
    assert found == pids
    assert total(events) == 140


@pytest.mark.parametrize(
    "env", [{}, {"DJANGO_ALLOW_ASYNC_UNSAFE": "1"}], ids=["refused", "allowed"]
)
def test_request_that_is_still_running(project: Project, env: dict[str, str]):
    """
    Hits of a request that was still running when the signal came are told of, too.
    """
    project.write(SITE)
    port = free_port()

    serve(project, signal.SIGTERM, *uvicorn_command(port), port=port, late=True, **env)

    assert total(project.events()) == 180


def test_uvicorn_started_by_the_project(project: Project):
    """
    The same holds where Django was set up before uvicorn put its signal handlers in place.
    """
    script = project.write(SITE + PROGRAMMATIC)
    port = free_port()

    serve(project, signal.SIGTERM, str(script), str(port), port=port)

    assert total(project.events()) == 140


def test_handlers_of_the_event_loop(project: Project):
    """
    Servers that use loop.add_signal_handler() are told of the signal, and we are as well.
    """
    body = """
async def main():
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, stopped.set)
    async_guard.install()
    await swallow(30)
    os.kill(os.getpid(), 15)
    await asyncio.wait_for(stopped.wait(), 5)
    await asyncio.sleep(0.3)
    sys.stdout.flush()
    os._exit(0)

asyncio.run(main())
"""

    project.run(body, before="import signal", guard={"ENABLED": False})

    assert total(project.events()) == 30


def test_no_handler_of_ours_where_nobody_handles():
    """
    A signal that nobody handles is left alone, so it ends the process as ever.
    """
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    shutdown = ShutdownSignal(lambda: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        shutdown.install()
        found = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        shutdown.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])

    assert found == (signal.SIG_DFL, signal.SIG_IGN)


def test_handlers_are_chained_and_given_back():
    """
    Ours is called before theirs with the same arguments, and theirs is back afterwards.
    """
    calls = []

    def theirs(number, frame):
        calls.append(("theirs", number))

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        shutdown = ShutdownSignal(lambda: calls.append("ours"))
        shutdown.install()
        signal.raise_signal(signal.SIGTERM)
        shutdown.uninstall()
        after = signal.getsignal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert calls == ["ours", ("theirs", signal.SIGTERM), ("theirs", signal.SIGTERM)]
    assert after is theirs


def test_a_callback_that_raises_does_not_keep_the_signal():
    """
    Whatever happens to ours, the server's handler is called.
    """
    calls = []

    def ours():
        raise RuntimeError

    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append("theirs"))
    try:
        shutdown = ShutdownSignal(ours)
        shutdown.install()
        try:
            signal.raise_signal(signal.SIGTERM)
        except RuntimeError:
            calls.append("raised")
        shutdown.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert calls == ["theirs"]


def test_other_threads_leave_the_handlers_alone():
    """
    Outside the main thread, where Python takes no handlers, nothing happens.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    theirs = signal.getsignal(signal.SIGTERM)
    shutdown = ShutdownSignal(lambda: None)
    try:
        for call in (shutdown.install, shutdown.uninstall):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_installed_again_after_an_uninstall_elsewhere():
    """
    An uninstall in another thread leaves no handler of ours that is chained to itself.
    """
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    shutdown = ShutdownSignal(lambda: calls.append("ours"))
    try:
        for _ in range(3):
            shutdown.install()
            thread = threading.Thread(target=shutdown.uninstall)
            thread.start()
            thread.join()
        shutdown.install()
        signal.raise_signal(signal.SIGTERM)
        shutdown.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert calls == ["ours"]
