"""The middleware: hits of plain views, and nothing else that a client or a view could notice."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.deprecation import MiddlewareMixin

import async_guard
from async_guard.middleware import AsyncGuardMiddleware
from async_guard.testing import capture_hits
from tests.integrations.driving import get, in_task, origins
from tests.testapp.models import Film

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls("tests.integrations.urls"),
]
OURS = "async_guard.middleware.AsyncGuardMiddleware"


class Swallow(MiddlewareMixin):
    """Answers instead of an error page."""

    def process_exception(self, request, exception):
        return HttpResponse("sorry", status=503)


SWALLOW = f"{__name__}.Swallow"


async def whole(response):
    if not response.streaming:
        return response.content
    if response.is_async:
        return b"".join([part async for part in response])
    return await sync_to_async(lambda: b"".join(response))()


async def ask(path, client=None):
    """Return all that a client sees; the name of the exception where a handler lets it out."""
    client = client or AsyncClient(raise_request_exception=False)
    response = await in_task(client.get(path))
    return response.status_code, dict(response.headers), await whole(response)


OUTCOMES = {
    "/director/": ["raised"],
    "/films/M/": ["raised"],
    "/careless/": ["swallowed"],
    "/careful/": ["raised"],
    "/grouped/": ["raised"],
    "/gathered/": ["swallowed", "swallowed"],
    "/tidied-up/": ["raised"],
    "/fine/": [],
    "/broken/": [],
}


@pytest.mark.parametrize("path", OUTCOMES)
async def test_outcome(path):
    """
    A hit of a view is raised where Django answers with an error, also in a group, or swallowed.
    """
    with capture_hits() as hits:
        await ask(path)

    assert [hit.outcome for hit in hits] == OUTCOMES[path]


@pytest.mark.parametrize("path", OUTCOMES)
async def test_outcome_in_a_sync_chain(path):
    """
    It is where a sync middleware puts the view into a loop of its own.
    """
    with override_settings(MIDDLEWARE=[OURS, f"{__name__}.sync_only"]), capture_hits() as hits:
        await ask(path)

    assert [hit.outcome for hit in hits] == OUTCOMES[path]


def sync_only(get_response):
    def middleware(request):
        return get_response(request)

    return middleware


@pytest.mark.parametrize("path", OUTCOMES)
async def test_outcome_under_wsgi(path):
    """
    It is under WSGI, where Django runs async views in a loop of their own.
    """
    client = Client(raise_request_exception=False)

    with capture_hits() as hits:
        await sync_to_async(client.get)(path)

    assert [hit.outcome for hit in hits] == OUTCOMES[path]


async def test_exception_middleware():
    """
    A hit that left the view was raised, whoever of Django's chain turns it into an answer.
    """
    with override_settings(MIDDLEWARE=[OURS, SWALLOW]), capture_hits() as hits:
        status, _, body = await ask("/director/")

    assert (status, body) == (503, b"sorry")
    assert [hit.outcome for hit in hits] == ["raised"]


async def test_streamed():
    """
    The body of a streaming response is produced after the middleware, and told all the same.
    """
    with capture_hits() as hits:
        _, _, body = await ask("/streamed/")

    assert body == b"title\nnobody\nnobody\nnobody\n"
    assert [hit.outcome for hit in hits] == ["swallowed"] * 3


@pytest.mark.parametrize("threshold", [2, 3])
async def test_sync_view_with_many_queries(threshold):
    """
    Repeated loads of a sync view are one hit of its route.
    """
    settings = {"ENABLED": False, "N_PLUS_ONE_THRESHOLD": threshold}

    with override_settings(ASYNC_GUARD=settings), capture_hits() as hits:
        await ask("/sync-page/")

    assert [(hit.kind, hit.relation, hit.count) for hit in hits] == [
        ("n_plus_one", "testapp.Film.director", 3)
    ]
    assert origins(hits) == [
        {"method": "GET", "route": "sync-page/", "view": "tests.integrations.urls:sync_page"}
    ]


PATHS = [*OUTCOMES, "/streamed/", "/sync-page/", "/sync-stream/", "/nowhere/"]
CHAINS = {
    "async": [],
    "sync": [f"{__name__}.sync_only"],
    "swallowing": [SWALLOW],
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("first", [True, False])
async def test_same_responses(chain, first, queries):
    """
    Status, headers, body and queries are the same with the middleware, wherever it stands.
    """
    without = CHAINS[chain]
    with_ours = [OURS, *without] if first else [*without, OURS]

    for path in PATHS:
        queries.clear()
        with override_settings(MIDDLEWARE=without):
            expected = await ask(path), list(queries)
        queries.clear()
        with override_settings(MIDDLEWARE=with_ours):
            idle = await ask(path), list(queries)
        queries.clear()
        with override_settings(MIDDLEWARE=with_ours), async_guard.guarded():
            found = await ask(path), list(queries)

        assert (path, idle) == (path, expected)
        assert (path, found) == (path, expected)


async def test_same_responses_under_wsgi():
    """
    So they are under WSGI, where the connection also ends in the state that it had.
    """

    def seen(path):
        with CaptureQueriesContext(connection) as captured:
            response = Client(raise_request_exception=False).get(path)
            body = response.content if not response.streaming else b"".join(response)
        sql = [each["sql"] for each in captured.captured_queries]
        state = connection.in_atomic_block, connection.needs_rollback, connection.autocommit
        return response.status_code, dict(response.headers), body, sql, state

    def work():
        for path in PATHS:
            if path == "/streamed/":
                continue  # Django warns of an async body under WSGI
            with override_settings(MIDDLEWARE=[]):
                expected = seen(path)
            with override_settings(MIDDLEWARE=[OURS]), async_guard.guarded():
                found = seen(path)
            assert (path, found) == (path, expected)

    await sync_to_async(work)()


async def test_exceptions_pass_through():
    """
    The very exception of what stands below comes out again.
    """
    error = ValueError("mine")

    async def view(request):
        raise error

    def sync_view(request):
        raise error

    with async_guard.guarded():
        with pytest.raises(ValueError) as caught:
            await AsyncGuardMiddleware(view)(RequestFactory().get("/"))
        with pytest.raises(ValueError) as caught_in_sync:
            AsyncGuardMiddleware(sync_view)(RequestFactory().get("/"))

    assert caught.value is caught_in_sync.value is error


async def test_cancelled_request():
    """
    A request that is cancelled ends with its cancellation; its hits are told.
    """

    async def view(request):
        film = await Film.objects.aget(title="M")
        try:
            film.director.name  # noqa: B018
        except Exception:
            await asyncio.sleep(60)

    with capture_hits() as hits:
        task = asyncio.create_task(AsyncGuardMiddleware(view)(RequestFactory().get("/")))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()
    assert [hit.outcome for hit in hits] == ["swallowed"]


async def test_client_that_raises():
    """
    Django's test client raises what the view raised, with its type and its traceback.
    """
    with capture_hits() as hits, pytest.raises(SynchronousOnlyOperation) as caught:
        await AsyncClient().get("/director/")

    assert caught.traceback[-1].name == "inner"
    assert [hit.outcome for hit in hits] == ["raised"]


async def test_nested():
    """
    Listed twice by mistake, the inner one speaks for the hits, once.
    """
    with override_settings(MIDDLEWARE=[OURS, OURS]), capture_hits() as hits:
        await get("/careless/")
        await get("/director/")

    assert [hit.outcome for hit in hits] == ["swallowed", "raised"]


async def test_concurrent_requests():
    """
    Each of many requests has its own hits.
    """
    paths = ["/director/", "/careless/", "/gathered/", "/films/M/"] * 10

    with capture_hits() as hits:
        await in_task(asyncio.gather(*(ask(path) for path in paths)))

    found = {}
    for hit in hits:
        found.setdefault((hit.http_route, hit.outcome), []).append(hit)
    assert {key: len(each) for key, each in found.items()} == {
        ("director/", "raised"): 10,
        ("careless/", "swallowed"): 10,
        ("gathered/", "swallowed"): 20,
        ("films/<title>/", "raised"): 10,
    }
