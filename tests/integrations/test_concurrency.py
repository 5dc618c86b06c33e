"""Many operations at once: no hit is told of another one than its own."""

import asyncio
import random
import warnings
from collections import Counter

import pytest
import strawberry
import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from strawberry.django.views import AsyncGraphQLView

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.driving import in_task
from tests.testapp import models

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls(__name__),
]


async def nap():
    await asyncio.sleep(random.random() / 100)


async def director_of(film):
    await nap()
    return film.director.name


@strawberry.type
class Film:
    title: str

    @strawberry.field
    async def plain(self) -> str | None:
        await nap()
        return self.director.name

    @strawberry.field
    async def gathered(self) -> str | None:
        found = await asyncio.gather(nap(), director_of(self), nap(), return_exceptions=True)
        return type(found[1]).__name__

    @strawberry.field
    async def grouped(self) -> str | None:
        async with asyncio.TaskGroup() as group:
            group.create_task(nap())
            group.create_task(director_of(self))

    @strawberry.field
    async def after_thread(self) -> str | None:
        await sync_to_async(models.Film.objects.count)()
        await nap()
        return self.director.name

    @strawberry.field
    async def caught(self) -> str | None:
        await nap()
        try:
            return self.director.name
        except Exception:
            await nap()
            return None


@strawberry.type
class Query:
    @strawberry.field
    async def film(self) -> Film | None:
        await nap()
        return await models.Film.objects.aget(title="M")

    @strawberry.field
    async def staff(self, info: strawberry.Info) -> bool | None:
        await nap()
        return info.context.request.user.is_staff


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def touch(self) -> Film | None:
        await nap()
        return await models.Film.objects.aget(title="M")


class BoundView(AsyncGraphQLView):
    """Binds the request's id as a logging middleware does."""

    async def dispatch(self, request, *args, **kwargs):
        with structlog.contextvars.bound_contextvars(request_id=request.headers["x-request-id"]):
            await nap()
            return await super().dispatch(request, *args, **kwargs)


async def page(request, number):
    with structlog.contextvars.bound_contextvars(request_id=request.headers["x-request-id"]):
        film = await models.Film.objects.aget(title="M")
        await nap()
        try:
            return JsonResponse({"name": film.director.name})
        except Exception:
            return JsonResponse({"name": None})


schema = strawberry.Schema(Query, Mutation, extensions=[AsyncGuardExtension])
unguarded = strawberry.Schema(Query, Mutation)
urlpatterns = [
    path("a/", BoundView.as_view(schema=schema)),
    path("b/<int:number>/", BoundView.as_view(schema=schema)),
    path("unguarded/", BoundView.as_view(schema=unguarded)),
    path("page/<int:number>/", page),
]
FIELDS = {
    "plain": "raised",
    "gathered": "swallowed",
    "grouped": "raised",
    "afterThread": "raised",
    "caught": "swallowed",
}
IN_SUBTASKS = {"gathered", "grouped"}  # no executor on the stack: the field cannot be told


def request_of(number, rng):
    """Return how to send request *number*, and what its hits must say."""
    kind = rng.choice(["graphql", "graphql", "graphql", "user", "page"])
    request_id = f"request-{number}"
    if kind == "page":
        expected = Counter({(request_id, None, None, "page/<int:number>/", "swallowed"): 1})
        return f"/page/{number}/", None, expected
    url, route = rng.choice([("/a/", "a/"), (f"/b/{number}/", "b/<int:number>/")])
    name = f"Op{number}"
    if kind == "user":
        expected = Counter({(request_id, name, "mine", route, "raised"): 1})
        return url, f"query {name} {{ mine: staff }}", expected
    root, operation = rng.choice([("film", "query"), ("touch", "mutation")])
    fields = rng.sample(sorted(FIELDS), rng.randint(1, 4))
    alias = f"film{number}"
    expected = Counter(
        (
            request_id,
            name,
            None if field in IN_SUBTASKS else f"{alias}.{field}",
            route,
            FIELDS[field],
        )
        for field in fields
    )
    return url, f"{operation} {name} {{ {alias}: {root} {{ {' '.join(fields)} }} }}", expected


async def send(client, number, url, query):
    headers = {"x-request-id": f"request-{number}"}
    await asyncio.sleep(random.random() / 20)
    if query is None:
        return await client.get(url, headers=headers)
    body = {"query": query}
    return await client.post(url, body, content_type="application/json", headers=headers)


async def test_two_hundred_requests():
    """
    Every hit names exactly its own operation, path, route and request id, and how it ended.
    """
    rng = random.Random(7)
    clients = [AsyncClient() for _ in range(5)]
    for number, client in enumerate(clients):
        await client.aforce_login(await User.objects.acreate(username=f"user {number}"))
    requests = [(number, *request_of(number, rng)) for number in range(200)]

    with capture_hits() as hits:
        answers = await in_task(
            asyncio.gather(
                *(send(rng.choice(clients), n, url, query) for n, url, query, _ in requests)
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    assert Counter(
        (hit.request_id, hit.operation_name, hit.graphql_path, hit.http_route, hit.outcome)
        for hit in hits
    ) == sum((expected for *_, expected in requests), Counter())


async def test_without_extension_and_middleware():
    """
    Frames and context variables alone do not mix either.
    """

    async def ask(number):
        query = f"query Op{number} {{ film{number}: film {{ plain afterThread }} }}"
        return await send(AsyncClient(), number, "/unguarded/", query)

    with override_settings(MIDDLEWARE=[]), capture_hits() as hits:
        await in_task(asyncio.gather(*(ask(number) for number in range(50))))

    assert Counter((hit.request_id, hit.operation_name, hit.graphql_path) for hit in hits) == {
        (f"request-{number}", f"Op{number}", f"film{number}.{field}"): 1
        for number in range(50)
        for field in ("plain", "afterThread")
    }


async def test_extension_as_an_instance():
    """
    One instance for all operations, which Strawberry deprecates, does not mix them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = strawberry.Schema(Query, Mutation, extensions=[AsyncGuardExtension()])

    async def ask(number):
        await nap()
        return await one.execute(
            f"query Op{number} {{ film{number}: film {{ plain caught grouped }} }}"
        )

    with capture_hits() as hits:
        await in_task(asyncio.gather(*(ask(number) for number in range(50))))

    assert Counter((hit.operation_name, hit.graphql_path, hit.outcome) for hit in hits) == {
        (f"Op{number}", path, outcome): 1
        for number in range(50)
        for path, outcome in (
            (f"film{number}.plain", "raised"),
            (f"film{number}.caught", "swallowed"),
            (None, "raised"),
        )
    }


async def test_several_schemas():
    """
    Several schemas of one process are told apart, and may run at once.
    """

    @strawberry.type(name="Query")
    class Other:
        @strawberry.field
        async def movie(self) -> Film | None:
            await nap()
            return await models.Film.objects.aget(title="M")

    other = strawberry.Schema(Other, extensions=[AsyncGuardExtension])

    async def ask(number):
        await nap()
        await schema.execute(f"query A{number} {{ film {{ plain }} }}")

    async def ask_other(number):
        await nap()
        await other.execute(f"query B{number} {{ movie {{ plain }} }}")

    with capture_hits() as hits:
        asked = [each(number) for number in range(20) for each in (ask, ask_other)]
        await in_task(asyncio.gather(*asked))

    assert Counter((hit.operation_name, hit.graphql_parent) for hit in hits) == {
        **{(f"A{number}", "Query.film"): 1 for number in range(20)},
        **{(f"B{number}", "Query.movie"): 1 for number in range(20)},
    }
