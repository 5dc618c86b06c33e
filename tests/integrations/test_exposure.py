"""``EXPOSE_IN_RESPONSE``: an operation's hits in its response, for people who develop."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import Warning
from django.test import override_settings
from strawberry.extensions import MaskErrors

import async_guard
from async_guard.checks import check_async_guard
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.catalogue import build
from tests.integrations.driving import execute, in_task, post

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls("tests.integrations.urls"),
]

QUERY = "query Q { plainFilms { directorName directorOrNothing directorByName } }"


def settings(*, debug=True, **more):
    return override_settings(ASYNC_GUARD={"ENABLED": False, **more}, DEBUG=debug)


def exposed(result):
    """Return path and outcome of the hits in the response, which must be JSON."""
    listed = json.loads(json.dumps(result.extensions))["asyncGuard"]["hits"]
    return sorted(
        (each["async_guard.graphql.path"], each["async_guard.outcome"]) for each in listed
    )


@pytest.mark.parametrize(
    ("value", "debug"), [(None, True), (False, True), (True, False), (None, False)]
)
async def test_off(value, debug):
    """
    Nothing is exposed by default, when it is switched off, or without DEBUG.
    """
    more = {} if value is None else {"EXPOSE_IN_RESPONSE": value}

    with settings(debug=debug, **more), async_guard.guarded():
        result = await execute(build(AsyncGuardExtension), QUERY)

    assert result.extensions == {}


@pytest.mark.parametrize(("value", "debug"), [(True, True), ("force", True), ("force", False)])
async def test_on(value, debug):
    """
    With DEBUG, or by force, the response lists the operation's hits but those that are handled.
    """
    with settings(debug=debug, EXPOSE_IN_RESPONSE=value), async_guard.guarded():
        result = await execute(build(AsyncGuardExtension), QUERY)

    assert exposed(result) == [
        *[("plainFilms[].directorName", "raised")] * 3,
        *[("plainFilms[].directorOrNothing", "swallowed")] * 3,
    ]


async def test_what_is_exposed():
    """
    What the response lists are the very events.
    """
    with settings(EXPOSE_IN_RESPONSE=True), capture_hits() as hits:
        result = await execute(
            build(AsyncGuardExtension), 'query Q { plainFilm(title: "M") { directorName } }'
        )

    assert result.extensions == {"asyncGuard": {"hits": [hit.to_dict() for hit in hits]}}


async def test_no_hits():
    """
    An operation without a hit has the extensions that it always had.
    """
    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        result = await execute(build(AsyncGuardExtension), "{ hello }")

    assert result.extensions == {}


@pytest.mark.parametrize("query", ["{ hello", "{ helo }", "query A { hello } query B { shout }"])
async def test_invalid_operations(query):
    """
    An operation that is not executed lists nothing of the one before.
    """
    schema = build(AsyncGuardExtension)

    async def work():
        await schema.execute(QUERY)
        return await schema.execute(query)

    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        result = await in_task(work())

    assert result.extensions == {}


async def test_beyond_burst():
    """
    A response lists its hits in full also where the log only counts them.
    """
    schema = build(AsyncGuardExtension)
    query = "query Q { plainFilms { directorName } }"

    with settings(EXPOSE_IN_RESPONSE=True, BURST=1), async_guard.guarded():
        results = [await execute(schema, query) for _ in range(3)]

    for result in results:
        listed = result.extensions["asyncGuard"]["hits"]
        assert exposed(result) == [("plainFilms[].directorName", "raised")] * 3
        assert len({each["async_guard.hit_id"] for each in listed}) == 3
        assert all(each["async_guard.frames"] for each in listed)


async def test_own_hits_only():
    """
    Concurrent operations list their own hits only.
    """
    schema = build(AsyncGuardExtension)

    async def ask(number):
        await asyncio.sleep(0.001 * (number % 3))
        query = f'query Q{number} {{ f{number}: plainFilm(title: "M") {{ directorName }} hello }}'
        return await schema.execute(query)

    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        results = await in_task(asyncio.gather(*(ask(number) for number in range(30))))

    assert [exposed(result) for result in results] == [
        [(f"f{number}.directorName", "raised")] for number in range(30)
    ]


async def test_hit_before_the_operation():
    """
    What the view did before the operation is not the operation's.
    """
    from tests.testapp import models

    schema = build(AsyncGuardExtension)
    film = await models.Film.objects.aget(title="M")

    async def work():
        try:
            film.director.name  # noqa: B018
        except Exception:
            pass
        return await schema.execute('{ plainFilm(title: "M") { directorName } }')

    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        result = await in_task(work())

    assert exposed(result) == [("plainFilm.directorName", "raised")]


@pytest.mark.parametrize("order", ["first", "last"])
async def test_masked(order):
    """
    A masked hit is listed as what it is to the client: swallowed.
    """
    both = [AsyncGuardExtension, MaskErrors]
    schema = build(*(both if order == "first" else reversed(both)))

    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        result = await execute(schema, '{ plainFilm(title: "M") { directorName } }')

    assert exposed(result) == [("plainFilm.directorName", "swallowed")]


async def test_n_plus_one():
    """
    Repeated loads are listed, too, once and with their count.
    """
    with settings(EXPOSE_IN_RESPONSE=True, N_PLUS_ONE_THRESHOLD=2), async_guard.guarded():
        result = await execute(build(AsyncGuardExtension), "{ films { lazyDirectorName } }")

    (hit,) = result.extensions["asyncGuard"]["hits"]
    assert (hit["async_guard.kind"], hit["async_guard.count"]) == ("n_plus_one", 3)


async def test_sync_execution():
    """
    So they are where the operation is executed without a loop.
    """
    schema = build(AsyncGuardExtension)

    with settings(EXPOSE_IN_RESPONSE=True, N_PLUS_ONE_THRESHOLD=2), async_guard.guarded():
        result = await sync_to_async(schema.execute_sync)("{ films { lazyDirectorName } }")

    (hit,) = result.extensions["asyncGuard"]["hits"]
    assert (hit["async_guard.kind"], hit["async_guard.count"]) == ("n_plus_one", 3)


async def test_over_http():
    """
    Strawberry's view sends them.
    """
    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        answer = await post("/api/graphql/", 'query Q { plainFilm(title: "M") { directorName } }')

    (hit,) = answer["extensions"]["asyncGuard"]["hits"]
    assert (hit["graphql.operation.name"], hit["http.route"]) == ("Q", "api/graphql/")


async def test_stream():
    """
    A stream sends its results as they come, before their hits are settled: they are not listed.
    """
    schema = build(AsyncGuardExtension)

    async def work():
        return [each async for each in await schema.stream("{ plainFilms { directorName } }")]

    with settings(EXPOSE_IN_RESPONSE=True), async_guard.guarded():
        (result,) = await in_task(work())

    assert result.extensions == {}


@pytest.mark.parametrize(
    ("value", "debug", "ids"),
    [
        (True, False, ["async_guard.W005"]),
        (True, True, []),
        ("force", False, []),
        (False, False, []),
    ],
)
async def test_check(value, debug, ids):
    """
    The system check says when the setting has no effect, because DEBUG is off.
    """
    with override_settings(ASYNC_GUARD={"EXPOSE_IN_RESPONSE": value}, DEBUG=debug):
        found = [each for each in check_async_guard(None) if each.id == "async_guard.W005"]

    assert [each.id for each in found] == ids
    assert all(isinstance(each, Warning) for each in found)
