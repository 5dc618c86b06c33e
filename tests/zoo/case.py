"""What a case is, how it is driven, and what is compared with the hit that it leaves."""

import asyncio
import gc
import logging
import re
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, override_settings

from tests.asgi import application
from tests.testapp.loaders import Context

MARKER = re.compile(r"<- the access \[(\w+)\]")


@dataclass(frozen=True)
class Told:
    """The part of a hit that a case is about."""

    kind: str
    access: str
    relation: str | None
    outcome: str
    site: str
    """``path:line``."""
    on_stack: bool = True


@dataclass(frozen=True)
class Case:
    """One thing that projects do, what the client gets for it, and what the guard says."""

    id: str
    promise: str
    drive: Callable[[], Awaitable[Any]]
    seen: Any
    """The answer, with the guard and without; the name of the exception if there is none."""
    told: tuple[Told, ...] = ()
    later: str = ""
    """Why the hit is not there yet."""

    def __str__(self):
        return self.id


def params(cases):
    """Return the cases as parameters; one whose hit comes later must fail until it comes."""
    return [pytest.param(case, id=case.id, marks=_marks(case)) for case in cases]


def _marks(case):
    if not case.later:
        return ()
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=case.later)


# --- the expected hit and the real one --------------------------------------------------------


@cache
def _sites():
    """Find every marker in the test project; a tag names one line."""
    root = Path(settings.BASE_DIR)
    found = {}
    for path in sorted((root / "tests/testapp").rglob("*.*")):
        if path.suffix not in (".py", ".html"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for tag in MARKER.findall(line):
                assert tag not in found, f"two lines are marked {tag}"
                found[tag] = f"{path.relative_to(root).as_posix()}:{number}"
    return found


def site(tag):
    """Return ``path:line`` of the line that carries the marker with this tag."""
    return _sites()[tag]


def hit(access, relation, tag, outcome="raised", *, kind="sync_orm", on_stack=True):
    return (Told(kind, access, relation, outcome, site(tag), on_stack),)


def told(hits):
    """Return of each hit what cases compare."""
    return tuple(_told(each.to_dict()) for each in hits)


def _told(event):
    return Told(
        kind=event["async_guard.kind"],
        access=event["async_guard.access"],
        relation=event.get("async_guard.relation"),
        outcome=event["async_guard.outcome"],
        site=f"{event['code.file.path']}:{event['code.line.number']}",
        on_stack=event["async_guard.code.on_stack"],
    )


# --- the drivers --------------------------------------------------------------------------------


async def answer(case):
    """Drive the case in a task of its own, where no frame of the tests catches anything."""
    task = asyncio.create_task(case.drive())
    await asyncio.wait([task])
    error = task.exception()
    return type(error).__name__ if error else task.result()


def gql(query, *, path="/graphql/", user=None):
    """Send a GraphQL operation; the answer is the data and the paths of the errors."""

    async def drive():
        client = await _client(user)
        request = client.post(path, {"query": query}, content_type="application/json")
        body = (await asyncio.create_task(request)).json()
        errors = [".".join(map(str, error.get("path", ["?"]))) for error in body.get("errors", ())]
        return (body.get("data"), *errors)

    return drive


def http(path, *, user=None, middleware=None):
    """Send a GET request; the answer is the status and the body."""

    async def drive():
        more = [f"tests.testapp.middleware.{middleware}"] if middleware else []
        with override_settings(MIDDLEWARE=settings.MIDDLEWARE + more):
            client = await _client(user)
            response = await asyncio.create_task(client.get(path))
        return response.status_code, (await _body(response)).strip()

    return drive


def unseen_by_pytest(drive):
    """Drive it without pytest's own log handler, which raises what others swallow."""

    async def drive_unseen():
        logger = logging.getLogger("tests.testapp")
        logger.propagate = False
        try:
            return await drive()
        finally:
            logger.propagate = True

    return drive_unseen


async def _client(user):
    client = AsyncClient()
    if user is not None:
        await client.aforce_login(await User.objects.aget(username=user))
    return client


async def _body(response):
    if not response.streaming:
        return response.text
    return b"".join([part async for part in response]).decode()


def asgi(path):
    """Call the ASGI application as a server does; the answer is the status, or all of a stream."""

    async def drive():
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
        }
        messages = [{"type": "http.request"}]
        sent = []

        async def receive():
            if not messages:
                await asyncio.Event().wait()  # a client that stays
            return messages.pop()

        async def send(message):
            if part := message.get("status") or message.get("body"):
                sent.append(part)

        task = asyncio.create_task(application(scope, receive, send))
        await asyncio.wait([task])
        if error := task.exception():
            sent.append(type(error).__name__)
        del task, error
        await collect_what_was_left_open()
        return sent if sent[0] == 200 else sent[0]

    return drive


async def collect_what_was_left_open():
    """
    Let the collector have what Django does not close.

    That is the body and the connection of a request whose stream broke, and the connection that
    the loop's thread opens for every task when it may.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
        await asyncio.sleep(0.01)  # the loop closes the generators that were collected
        gc.collect()


def subscription(schema, query):
    """Subscribe; the answer has, of each result, what a single answer has."""

    async def drive():
        stream = await schema.subscribe(query, context_value=_context())
        return [_result(result) async for result in stream]

    return drive


def stream(schema, query):
    """Send an operation over a transport that streams the results of every operation."""

    async def drive():
        results = await schema.stream(query, context_value=_context())
        return [_result(result) async for result in results]

    return drive


def execute(schema, query):
    """Execute the operation without a view."""

    async def drive():
        request = schema.execute(query, context_value=_context())
        return _result(await asyncio.create_task(request))

    return drive


def _context():
    return Context(request=AsyncRequestFactory().get("/"), response=HttpResponse())


def _result(result):
    return (result.data, *(".".join(map(str, e.path or ["?"])) for e in result.errors or ()))


def socket(consumer, *texts):
    """Send messages to a consumer; the answer is what it sent back."""

    async def drive():
        messages = [{"type": "websocket.receive", "text": text} for text in texts]
        messages.append({"type": "websocket.disconnect"})
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message["text"])

        await consumer({"type": "websocket"}, receive, send)
        return sent

    return drive
