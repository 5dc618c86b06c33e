"""The servers and protocols that carry GraphQL: a hit is told below each of them."""

import asyncio
import json
import threading

import httpx
import pytest
import strawberry
import uvicorn
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient
from strawberry.federation import Schema as FederationSchema

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.catalogue import build
from tests.integrations.driving import RESOLVERS, execute, origins, post
from tests.testapp import models

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls("tests.integrations.urls"),
]

QUERY = 'query Q { plainFilm(title: "M") { directorName } }'
FOUND = {
    "operation": "Q",
    "type": "query",
    "field": "PlainFilm.directorName",
    "path": "plainFilm.directorName",
    "parent": "Query.plainFilm",
    "resolver": RESOLVERS + "PlainFilm.director_name",
}
SUBSCRIPTION = "subscription S { newFilms { directorName } }"
STREAMED = {
    "operation": "S",
    "type": "subscription",
    "field": "PlainFilm.directorName",
    "path": "newFilms.directorName",
    "parent": "Subscription.newFilms",
    "resolver": RESOLVERS + "PlainFilm.director_name",
}


class Served:
    """An ASGI application behind uvicorn, with a loop and a thread of its own."""

    def __init__(self, app):
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
        self._thread = threading.Thread(target=self._server.run)

    async def __aenter__(self):
        self._thread.start()
        while not self._server.started:
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def __aexit__(self, *exc_info):
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join)


async def ask(url, query):
    async with httpx.AsyncClient(timeout=10) as client:
        return (await client.post(url, json={"query": query})).json()


async def test_django_view():
    """
    Strawberry's view for Django, in Django's own handler for tests.
    """
    with capture_hits() as hits:
        answer = await post("/api/graphql/", QUERY)

    assert answer["data"] == {"plainFilm": {"directorName": None}}
    assert origins(hits) == [
        {
            **FOUND,
            "method": "POST",
            "route": "api/graphql/",
            "view": "strawberry.django.views:AsyncGraphQLView",
        }
    ]


async def test_django_asgi_handler(settings):
    """
    Django's ASGI application behind uvicorn.
    """
    settings.ALLOWED_HOSTS = ["127.0.0.1"]

    with capture_hits() as hits:
        async with Served(ASGIHandler()) as url:
            answer = await ask(f"{url}/api/graphql/", QUERY)

    assert answer["data"] == {"plainFilm": {"directorName": None}}
    assert [(hit.operation_name, hit.http_route, hit.outcome) for hit in hits] == [
        ("Q", "api/graphql/", "raised")
    ]


async def test_sync_view_on_the_handler_of_asgi(settings):
    """
    Strawberry's sync view runs in a thread: nothing is refused there.
    """
    settings.ALLOWED_HOSTS = ["127.0.0.1"]

    with capture_hits() as hits:
        async with Served(ASGIHandler()) as url:
            answer = await ask(f"{url}/sync-graphql/", "{ films { lazyDirectorName } }")

    assert len(answer["data"]["films"]) == 3
    assert hits == []


async def test_strawberry_asgi():
    """
    Strawberry's own ASGI application behind uvicorn, without any of Django's handlers.
    """
    pytest.importorskip("starlette", reason="strawberry.asgi needs Starlette")
    from strawberry.asgi import GraphQL

    with capture_hits() as hits:
        async with Served(GraphQL(build(AsyncGuardExtension))) as url:
            answer = await ask(url, QUERY)

    assert answer["data"] == {"plainFilm": {"directorName": None}}
    assert [(hit.operation_name, hit.graphql_path, hit.outcome) for hit in hits] == [
        ("Q", "plainFilm.directorName", "raised")
    ]


async def test_strawberry_asgi_socket():
    """
    Subscriptions over graphql-transport-ws, two at a time on one socket.
    """
    pytest.importorskip("starlette", reason="strawberry.asgi needs Starlette")
    from strawberry.asgi import GraphQL

    with capture_hits() as hits:
        results = await subscribe_twice(GraphQL(build(AsyncGuardExtension)))

    assert results == {"1": 3, "2": 3}
    assert told(hits) == {(each, f"{each}.directorName", "raised"): 3 for each in ("A", "B")}


async def test_channels_socket():
    """
    The same through Channels.
    """
    pytest.importorskip("channels", reason="strawberry.channels needs Channels")
    from strawberry.channels import GraphQLWSConsumer

    with capture_hits() as hits:
        app = GraphQLWSConsumer.as_asgi(schema=build(AsyncGuardExtension))
        results = await subscribe_twice(app)

    assert results == {"1": 3, "2": 3}
    assert told(hits) == {(each, f"{each}.directorName", "raised"): 3 for each in ("A", "B")}


async def test_channels_http():
    """
    A query through Channels.
    """
    pytest.importorskip("channels", reason="strawberry.channels needs Channels")
    from strawberry.channels import GraphQLHTTPConsumer

    app = GraphQLHTTPConsumer.as_asgi(schema=build(AsyncGuardExtension))

    with capture_hits() as hits:
        async with Served(app) as url:
            answer = await ask(url, QUERY)

    assert answer["data"] == {"plainFilm": {"directorName": None}}
    assert [(hit.operation_name, hit.graphql_path, hit.outcome) for hit in hits] == [
        ("Q", "plainFilm.directorName", "raised")
    ]


def told(hits):
    found = {}
    for hit in hits:
        key = hit.operation_name, hit.graphql_path, hit.outcome
        found[key] = found.get(key, 0) + 1
    return found


async def subscribe_twice(app):
    """Speak graphql-transport-ws; return how many results each subscription had."""
    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [],
        "query_string": b"",
        "subprotocols": ["graphql-transport-ws"],
    }
    socket = ApplicationCommunicator(app, scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(5))["type"] == "websocket.accept"
    await tell(socket, {"type": "connection_init"})
    assert await hear(socket) == {"type": "connection_ack"}
    for key, name in (("1", "A"), ("2", "B")):
        query = f"subscription {name} {{ {name}: newFilms {{ directorName }} }}"
        await tell(socket, {"id": key, "type": "subscribe", "payload": {"query": query}})
    results, completed = {}, set()
    while len(completed) < 2:
        message = await hear(socket)
        if message["type"] == "complete":
            completed.add(message["id"])
        else:
            results[message["id"]] = results.get(message["id"], 0) + 1
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(5)
    return results


async def tell(socket, message):
    await socket.send_input({"type": "websocket.receive", "text": json.dumps(message)})


async def hear(socket):
    return json.loads((await socket.receive_output(5))["text"])


@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"])
async def test_subscription_over_http(accept):
    """
    A subscription as server-sent events or in parts, long after the view has returned.
    """
    with capture_hits() as hits:
        response = await AsyncClient().post(
            "/api/stream/",
            {"query": SUBSCRIPTION},
            content_type="application/json",
            headers={"accept": accept},
        )
        body = b"".join([part async for part in response])

    view = {
        "method": "POST",
        "route": "api/stream/",
        "view": "strawberry.django.views:AsyncGraphQLView",
    }
    assert body.count(b'"errors"') == 3
    assert origins(hits) == [{**STREAMED, **view}] * 3
    assert [hit.outcome for hit in hits] == ["raised"] * 3


async def test_federation():
    """
    A hit of a reference resolver, which the gateway asks for through ``_entities``.
    """

    @strawberry.federation.type(keys=["title"])
    class Film:
        title: str

        @classmethod
        async def resolve_reference(cls, title: str) -> "Film":
            film = await models.Film.objects.aget(title=title)
            return cls(title=film.director.name)

        @strawberry.federation.field(shareable=True)
        async def director_name(self) -> str | None:
            film = await models.Film.objects.aget(title=self.title)
            return film.director.name

    @strawberry.federation.type
    class Query:
        @strawberry.field
        async def film(self) -> Film | None:
            return Film(title="M")

    plain = FederationSchema(Query, types=[Film])
    schema = FederationSchema(Query, types=[Film], extensions=[AsyncGuardExtension])
    query = """
        query E($r: [_Any!]!) {
            a: _entities(representations: $r) { ... on Film { title } }
            film { directorName }
            _service { sdl }
        }
    """

    def variables():  # Strawberry changes them
        return {"r": [{"__typename": "Film", "title": "M"}]}

    expected = await execute(plain, query, variables())

    with capture_hits() as hits:
        found = await execute(schema, query, variables())

    assert (found.data, str(found.errors)) == (expected.data, str(expected.errors))
    assert schema.as_str() == plain.as_str()
    assert sorted((hit.graphql_field, hit.graphql_path, hit.outcome) for hit in hits) == [
        ("Film.directorName", "film.directorName", "raised"),
        ("Query._entities", "a", "raised"),
    ]
