"""On whose behalf: the operation, the field, the request, the task."""

import asyncio
import gc
import uuid
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest
import strawberry
import structlog
from asgiref.sync import sync_to_async
from django.core.signals import got_request_exception
from django.test import AsyncClient, RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject
from strawberry.dataloader import DataLoader
from strawberry.extensions import SchemaExtension
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.catalogue import build
from tests.integrations.driving import RESOLVERS, execute, get, in_task, origin, origins, post
from tests.testapp import models

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls("tests.integrations.urls"),
]

DIRECTOR_NAME = {
    "field": "PlainFilm.directorName",
    "resolver": RESOLVERS + "PlainFilm.director_name",
}
STRAND_OR_NONE = {
    "field": "PlainFilm.strandOrNone",
    "resolver": RESOLVERS + "PlainFilm.strand_or_none",
}
DIRECTOR = {"field": "PlainFilm.director", "resolver": RESOLVERS + "PlainFilm.director"}


@pytest.fixture(scope="module")
def schema():
    return build(AsyncGuardExtension)


FIELDS = [
    pytest.param(
        'query Best { plainFilm(title: "M") { directorName } }',
        [
            {
                **DIRECTOR_NAME,
                "operation": "Best",
                "type": "query",
                "path": "plainFilm.directorName",
                "parent": "Query.plainFilm",
            }
        ],
        id="resolver",
    ),
    pytest.param(
        '{ plainFilm(title: "M") { director { name } } }',
        [{**DIRECTOR, "type": "query", "path": "plainFilm.director", "parent": "Query.plainFilm"}],
        id="default_resolver_of_an_anonymous_operation",
    ),
    pytest.param(
        '{ best: plainFilm(title: "M") { boss: directorName } }',
        [{**DIRECTOR_NAME, "type": "query", "path": "best.boss", "parent": "Query.plainFilm"}],
        id="aliases",
    ),
    pytest.param(
        "query Shelves { shelves { directorName } }",
        [
            {
                **DIRECTOR_NAME,
                "operation": "Shelves",
                "type": "query",
                "path": "shelves[][].directorName",
                "parent": "Query.shelves",
            }
        ]
        * 3,
        id="nested_lists",
    ),
    pytest.param(
        "{ all: plainDirectors { works: films { boss: strandOrNone } } }",
        [
            {
                **STRAND_OR_NONE,
                "type": "query",
                "path": "all[].works[].boss",
                "parent": "PlainDirector.films",
            }
        ]
        * 3,
        id="lists_of_lists_behind_aliases",
    ),
    pytest.param(
        "query F { ...A } fragment A on Fields { a: maybeFilms { ...B } }"
        " fragment B on PlainFilm { ... on PlainFilm { ... { n: strandOrNone } } }",
        [
            {
                **STRAND_OR_NONE,
                "operation": "F",
                "type": "query",
                "path": "a[].n",
                "parent": "Query.maybeFilms",
            }
        ]
        * 3,
        id="fragments",
    ),
    pytest.param(
        "query F { ... on Fields { ...A } }"
        " fragment A on Fields { ... { a: maybeFilms { strandOrNone } } }",
        [
            {
                **STRAND_OR_NONE,
                "operation": "F",
                "type": "query",
                "path": "a[].strandOrNone",
                "parent": "Query.maybeFilms",
            }
        ]
        * 3,
        id="parent_in_an_inline_fragment",
    ),
    pytest.param(
        'mutation Rename { done: retitle(old: "M", new: "N") { directorName } }',
        [
            {
                **DIRECTOR_NAME,
                "operation": "Rename",
                "type": "mutation",
                "path": "done.directorName",
                "parent": "Mutation.retitle",
            }
        ],
        id="mutation",
    ),
    pytest.param(
        'query Two { a: plainFilm(title: "M") { director { name } }'
        ' b: plainFilm(title: "M") { directorName } }',
        [
            {
                **DIRECTOR,
                "operation": "Two",
                "type": "query",
                "path": "a.director",
                "parent": "Query.plainFilm",
            },
            {
                **DIRECTOR_NAME,
                "operation": "Two",
                "type": "query",
                "path": "b.directorName",
                "parent": "Query.plainFilm",
            },
        ],
        id="two_fields_of_one_type",
    ),
]


def by_path(hits):
    return sorted(origins(hits), key=lambda each: each.get("path", ""))


@pytest.mark.parametrize(("query", "expected"), FIELDS)
async def test_field(schema, query, expected):
    """
    A hit names operation, field, path with folded indexes, resolver and the parent's field.
    """
    query = query.replace("Fields", "Query")

    with capture_hits() as hits:
        await execute(schema, query)

    assert by_path(hits) == expected


@pytest.mark.parametrize(("query", "expected"), FIELDS)
async def test_field_without_extension(query, expected):
    """
    Without the extension the executor's frames still tell all of it.
    """
    query = query.replace("Fields", "Query")

    with capture_hits() as hits:
        await execute(build(), query)

    assert by_path(hits) == expected


@pytest.mark.parametrize("path", ["/api/graphql/", "/unguarded/"])
async def test_graphql_request(path):
    """
    A GraphQL hit of a request also names method, route and view, with the extension or without.
    """
    with capture_hits() as hits:
        await post(path, '{ plainFilm(title: "M") { directorName } }')

    assert origins(hits) == [
        {
            **DIRECTOR_NAME,
            "type": "query",
            "path": "plainFilm.directorName",
            "parent": "Query.plainFilm",
            "method": "POST",
            "route": path.removeprefix("/"),
            "view": "strawberry.django.views:AsyncGraphQLView",
        }
    ]


VIEWS = [
    pytest.param(
        "/director/",
        {"method": "GET", "route": "director/", "view": "tests.integrations.urls:director"},
        id="function",
    ),
    pytest.param(
        "/films/M/",
        {
            "method": "GET",
            "route": "films/<title>/",
            "view": "tests.integrations.urls:DirectorView",
        },
        id="class",
    ),
    pytest.param(
        "/named/by-key/7/",
        {
            "method": "GET",
            "route": "named/by-key/<int:key>/",
            "view": "tests.integrations.urls:decorated_director",
        },
        id="decorated_function_in_a_namespace",
    ),
    pytest.param(
        "/partial/",
        {"method": "GET", "route": "partial/", "view": "tests.integrations.urls:director"},
        id="partial",
    ),
]


@pytest.mark.parametrize(("path", "expected"), VIEWS)
async def test_request(path, expected):
    """
    A hit of a view names the route's pattern, never the path, and the view.
    """
    with capture_hits() as hits:
        await get(path)

    assert origins(hits) == [expected]


@pytest.mark.parametrize(("path", "expected"), VIEWS)
async def test_request_without_middleware(path, expected):
    """
    Without the middleware Django's handler on the stack knows the request.
    """
    with override_settings(MIDDLEWARE=[]), capture_hits() as hits:
        await get(path)

    assert origins(hits) == [expected]


async def test_graphql_without_middleware():
    """
    Without the middleware Strawberry's context has the request.
    """
    with override_settings(MIDDLEWARE=[]), capture_hits() as hits:
        await post("/api/graphql/", 'query Q { plainFilm(title: "M") { directorName } }')

    assert origins(hits) == [
        {
            **DIRECTOR_NAME,
            "operation": "Q",
            "type": "query",
            "path": "plainFilm.directorName",
            "parent": "Query.plainFilm",
            "method": "POST",
            "route": "api/graphql/",
            "view": "strawberry.django.views:AsyncGraphQLView",
        }
    ]


@pytest.mark.parametrize("as_dict", [True, False])
async def test_request_in_context_value(schema, as_dict):
    """
    An operation that no view runs may have a request in its context, as a key or an attribute.
    """
    request = RequestFactory().put("/secret/path/")
    context = {"request": request} if as_dict else SimpleNamespace(request=request)

    with capture_hits() as hits:
        await execute(schema, '{ plainFilm(title: "M") { directorName } }', context_value=context)

    assert [(hit.http_method, hit.http_route, hit.view) for hit in hits] == [("PUT", None, None)]


async def test_task():
    """
    A hit of a task that answers nobody names the task.
    """

    async def work():
        film = await models.Film.objects.aget(title="M")
        return film.director.name

    with capture_hits() as hits:
        task = asyncio.create_task(work(), name="nightly")
        await asyncio.wait([task])
        del task

    assert origins(hits) == [{"task": "nightly"}]


async def test_subtask_of_a_request():
    """
    A task started by a view belongs to the view's request.
    """
    with capture_hits() as hits:
        await get("/grouped/")

    assert origins(hits) == [
        {"method": "GET", "route": "grouped/", "view": "tests.integrations.urls:grouped"}
    ]


SUBSCRIBED = [
    pytest.param(
        "subscription New { newFilms { directorName } }",
        {
            **DIRECTOR_NAME,
            "operation": "New",
            "type": "subscription",
            "path": "newFilms.directorName",
            "parent": "Subscription.newFilms",
        },
        3,
        id="field_below",
    ),
    pytest.param(
        "subscription New { n: newDirectorNames }",
        {
            "field": "Subscription.newDirectorNames",
            "resolver": RESOLVERS + "Subscription.new_director_names",
            "operation": "New",
            "type": "subscription",
            "path": "n",
        },
        1,
        id="step",
    ),
]


@pytest.mark.parametrize(("query", "expected", "times"), SUBSCRIBED)
async def test_subscription(schema, query, expected, times):
    """
    A hit in a step of a subscription, or below it, names the subscription's field.
    """

    async def work():
        return [each async for each in await schema.subscribe(query)]

    with capture_hits() as hits:
        await in_task(work())

    assert origins(hits) == [expected] * times


async def test_loader_below_a_subscription():
    """
    A loader that a subscription's fields share belongs to none of them, so none is named.
    """

    async def load(keys):
        return [film.director.name async for film in models.Film.objects.filter(pk__in=keys)]

    @strawberry.type
    class Row:
        pk: int

        @strawberry.field
        async def director(self, info: strawberry.Info) -> str:
            return await info.context.load(self.pk)

    @strawberry.type
    class Query:
        ok: bool = True

    @strawberry.type
    class Subscription:
        @strawberry.subscription
        async def rows(self) -> AsyncGenerator[Row, None]:
            yield Row(pk=(await models.Film.objects.afirst()).pk)

    schema = strawberry.Schema(Query, subscription=Subscription, extensions=[AsyncGuardExtension])

    async def work():
        loader = DataLoader(load)
        query = "subscription New { rows { director } }"
        stream = await schema.subscribe(query, context_value=loader)
        return [each async for each in stream]

    with capture_hits() as hits:
        await in_task(work())

    assert origins(hits) == [{"operation": "New", "type": "subscription"}]


async def test_two_streams_in_one_task(schema):
    """
    Two subscriptions that one task reads by turns are not taken for each other.
    """

    async def work():
        first = await schema.subscribe("subscription A { a: newDirectorNames }")
        second = await schema.subscribe("subscription B { b: count }")
        third = await schema.subscribe("subscription C { c: newFilms { directorName } }")
        for stream in (third, second, first, second, third):
            await anext(stream)
        for stream in (first, second, third):
            await stream.aclose()

    with capture_hits() as hits:
        await in_task(work())

    assert sorted((hit.operation_name, hit.graphql_path, hit.outcome) for hit in hits) == [
        ("A", "a", "raised"),
        ("C", "c.directorName", "raised"),
        ("C", "c.directorName", "raised"),
    ]


async def test_stream_read_by_several_tasks(schema):
    """
    A subscription whose every result is asked for in a task of its own is one operation.
    """

    async def work():
        stream = await schema.subscribe("subscription S { s: newNamesOrNothing }")
        return [await asyncio.create_task(anext(stream)) for _ in range(3)]

    with capture_hits() as hits:
        await in_task(work())

    assert [(hit.operation_name, hit.graphql_path) for hit in hits] == [("S", "s")] * 3


async def test_reader_of_a_stream(schema):
    """
    What the reader of a subscription does between two results is no part of the subscription.
    """

    async def work():
        film = await models.Film.objects.aget(title="M")
        results = await schema.subscribe("subscription S { count }")
        async for _ in results:
            try:
                film.director.name  # noqa: B018
            except Exception:
                return
            finally:
                await results.aclose()

    with capture_hits() as hits:
        task = asyncio.create_task(work(), name="reader")
        await asyncio.wait([task])
        del task

    assert origins(hits) == [{"task": "reader"}]


async def test_nothing_is_left_behind(schema):
    """
    After an operation, a subscription or a failure the task has the origin that it had before.
    """
    film = await models.Film.objects.aget(title="M")

    async def read():
        try:
            film.director.name  # noqa: B018
        except Exception:
            return

    async def work():
        await schema.execute("{ hello }")
        await read()
        await schema.execute("{ hello")
        await read()
        async for _ in await schema.subscribe("subscription { count }"):
            pass
        await read()
        await schema.execute('{ plainFilm(title: "M") { directorName } }')
        await read()

    with capture_hits() as hits:
        task = asyncio.create_task(work(), name="work")
        await asyncio.wait([task])
        del task

    assert [origin(hit) for hit in hits if not hit.graphql_field] == [{"task": "work"}] * 4


class Refuse(SchemaExtension):
    def on_operation(self):
        raise ValueError("not today")


class RefuseLater(SchemaExtension):
    async def on_operation(self):
        raise ValueError("not today")
        yield


@pytest.mark.parametrize("refuse", [Refuse, RefuseLater])
@pytest.mark.parametrize("order", ["first", "last"])
async def test_operation_that_does_not_begin(refuse, order):
    """
    An extension that refuses to begin an operation leaves nothing of it behind, now or later.
    """
    both = [AsyncGuardExtension, refuse]
    schema = build(*(both if order == "first" else reversed(both)))
    film = await models.Film.objects.aget(title="M")

    async def work():
        await schema.execute("query Refused { hello }")
        gc.collect()
        return film.director.name

    with capture_hits() as hits:
        task = asyncio.create_task(work(), name="work")
        await asyncio.wait([task])
        del task

    assert [(origin(hit), hit.outcome) for hit in hits] == [({"task": "work"}, "raised")]


async def test_sync_operation_that_does_not_begin():
    """
    Nor does one that Strawberry cannot execute, because an extension needs a loop.
    """
    schema = build(AsyncGuardExtension, RefuseLater)
    film = await models.Film.objects.aget(title="M")

    async def work():
        await sync_to_async(schema.execute_sync)("query Refused { hello }")
        return film.director.name

    with capture_hits() as hits:
        task = asyncio.create_task(work(), name="work")
        await asyncio.wait([task])
        del task

    assert [(origin(hit), hit.outcome) for hit in hits] == [({"task": "work"}, "raised")]


async def test_operation_within_an_operation(schema):
    """
    A resolver that executes another schema's operation gets its own back.
    """

    @strawberry.type
    class Query:
        @strawberry.field
        async def outer(self) -> str | None:
            await schema.execute('query Inner { plainFilm(title: "M") { directorName } }')
            film = await models.Film.objects.aget(title="M")
            return film.director.name

    outer = strawberry.Schema(Query, extensions=[AsyncGuardExtension])

    with capture_hits() as hits:
        await execute(outer, "query Outer { outer }")

    assert [(hit.operation_name, hit.graphql_path) for hit in hits] == [
        ("Inner", "plainFilm.directorName"),
        ("Outer", "outer"),
    ]


REQUEST_ID = uuid.uuid4()


async def test_ids_of_structlog(schema):
    """
    The ids that django-structlog binds are in the event, whatever their type.
    """

    async def work():
        with structlog.contextvars.bound_contextvars(request_id=REQUEST_ID, correlation_id=7):
            await schema.execute('{ plainFilm(title: "M") { directorName } }')

    with capture_hits() as hits:
        await in_task(work())

    assert [(hit.request_id, hit.correlation_id) for hit in hits] == [(str(REQUEST_ID), "7")]


async def test_lazy_object_in_structlog():
    """
    A lazy object among structlog's variables is neither evaluated nor part of the event.
    """
    evaluated = []
    lazy = SimpleLazyObject(lambda: evaluated.append(1) or "id")
    film = await models.Film.objects.aget(title="M")  # asgiref compares variables in its threads

    async def work():
        with structlog.contextvars.bound_contextvars(request_id=lazy, user=lazy):
            return film.director.name

    with capture_logs(), capture_hits() as hits:  # what a renderer does is the project's
        task = asyncio.create_task(work())
        await asyncio.wait([task])
        del task

    assert [(hit.request_id, evaluated) for hit in hits] == [(None, [])]


async def test_django_structlog():
    """
    The id that django-structlog gives a request reaches the event.
    """
    pytest.importorskip("django_structlog")
    more = ["django_structlog.middlewares.RequestMiddleware"]
    receivers = got_request_exception.receivers
    got_request_exception.receivers = []

    try:
        with (
            override_settings(MIDDLEWARE=more),
            capture_logs([merge_contextvars]) as logs,
            capture_hits() as hits,
        ):
            request = AsyncClient().get("/careless/", headers={"x-correlation-id": "abc-123"})
            await in_task(request)
    finally:
        got_request_exception.receivers = receivers

    (started,) = (each for each in logs if each["event"] == "request_started")
    assert origins(hits) == [
        {
            "method": "GET",
            "route": "careless/",
            "view": "tests.integrations.urls:careless",
            "request_id": started["request_id"],
        }
    ]


async def test_data_loader(schema):
    """
    A DataLoader's batch, which belongs to several fields, still names the operation.
    """
    from strawberry.dataloader import DataLoader

    async def load(keys):
        found = {each.pk: each.name for each in models.Director.objects.filter(pk__in=keys)}
        return [found[key] for key in keys]

    async def work():
        context = {"directors": DataLoader(load)}
        return await schema.execute(
            "query Loaded { plainFilms { joinedDirector } }", context_value=context
        )

    with capture_hits() as hits:
        await in_task(work())

    assert [(hit.operation_name, hit.operation_type) for hit in hits] == [("Loaded", "query")]


async def test_worker_thread_of_a_strawberry_django_field(schema):
    """
    A repeated load in the thread of a strawberry_django field names that field.
    """
    await sync_to_async(more_films)()

    with capture_hits() as hits:
        await execute(schema, "query Lazy { all: films { boss: lazyDirectorName } }")

    assert origins(hits) == [
        {
            "operation": "Lazy",
            "type": "query",
            "field": "Film.lazyDirectorName",
            "path": "all[].boss",
            "parent": "Query.films",
            "resolver": RESOLVERS + "Film.lazy_director_name",
        }
    ]


def more_films():
    for number in range(5):
        director = models.Director.objects.create(name=f"director {number}")
        models.Film.objects.create(title=f"film {number}", director=director)
