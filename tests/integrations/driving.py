"""Runs operations as servers do, and picks from their hits what a test is about."""

import asyncio

from django.test import AsyncClient

ORIGIN = {
    "graphql.operation.name": "operation",
    "graphql.operation.type": "type",
    "async_guard.graphql.field": "field",
    "async_guard.graphql.path": "path",
    "async_guard.graphql.resolver": "resolver",
    "async_guard.graphql.parent": "parent",
    "http.request.method": "method",
    "http.route": "route",
    "async_guard.view": "view",
    "request_id": "request_id",
    "correlation_id": "correlation_id",
    "async_guard.task": "task",
}
RESOLVERS = "tests.integrations.catalogue:"


def origin(hit):
    """Return what the event says about its origin."""
    event = hit.to_dict()
    return {name: event[key] for key, name in ORIGIN.items() if key in event}


def origins(hits):
    return [origin(hit) for hit in hits]


def outcomes(hits):
    return [(hit.relation, hit.outcome) for hit in hits]


async def in_task(awaitable):
    """Await it in a task of its own, where no frame of the tests catches anything."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait([task])
    return task.result()


async def execute(schema, query, variables=None, **more):
    return await in_task(asyncio.create_task(schema.execute(query, variables, **more)))


async def post(path, query, **more):
    """Send the operation through middleware and view; return the answer's JSON."""
    body = {"query": query, **more}
    request = AsyncClient().post(path, body, content_type="application/json")
    return (await in_task(request)).json()


async def get(path):
    return await in_task(AsyncClient(raise_request_exception=False).get(path))
