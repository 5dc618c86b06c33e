"""Objects of the project that must not be touched: looking at them would run the project's code."""

import asyncio

import pytest
import strawberry
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.urls import path
from django.utils.functional import SimpleLazyObject
from strawberry.dataloader import DataLoader
from strawberry.django.views import AsyncGraphQLView

import async_guard
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.driving import execute, in_task
from tests.testapp import models

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls(__name__),
]
TOUCHED = []


class Touchy:
    """An object that notes whatever is asked of it."""

    def __getattribute__(self, name):
        TOUCHED.append(name)
        raise LookupError(name)

    def __eq__(self, other):
        TOUCHED.append("==")
        raise LookupError("==")

    def __hash__(self):
        TOUCHED.append("hash")
        raise LookupError("hash")

    def __bool__(self):
        TOUCHED.append("bool")
        raise LookupError("bool")

    def __len__(self):
        TOUCHED.append("len")
        raise LookupError("len")

    def __repr__(self):
        TOUCHED.append("repr")
        raise LookupError("repr")


@pytest.fixture(autouse=True)
def untouched():
    TOUCHED.clear()


@strawberry.type
class Member:
    username: str


@strawberry.type
class Film:
    title: str

    @strawberry.field
    async def director_name(self) -> str | None:
        return self.film.director.name


class Source:
    """What a resolver returned: not a model, and touchy about what it does not have."""

    def __init__(self, film):
        self.film = film

    def __getattr__(self, name):
        TOUCHED.append(name)
        raise LookupError(name)


@strawberry.type
class Query:
    @strawberry.field
    async def me(self, info: strawberry.Info) -> Member | None:
        return info.context.request.user

    @strawberry.field
    async def in_block(self) -> str | None:
        film = await models.Film.objects.aget(title="M")
        touchy, holder = Touchy(), [Touchy()]
        with block(touchy, holder):
            return film.director.name

    @strawberry.field
    async def in_clause(self) -> str | None:
        film = await models.Film.objects.aget(title="M")
        touchy = Touchy()
        try:
            try:
                return film.director.name
            finally:
                block(touchy, info=touchy)
        except (ValueError, LookupError):
            return None

    @strawberry.field
    async def in_variables(self) -> str | None:
        film = await models.Film.objects.aget(title="M")
        return with_variables(film, self=Touchy(), info=Touchy(), request=Touchy())

    @strawberry.field
    async def in_arguments(self) -> str | None:
        film = await models.Film.objects.aget(title="M")
        return with_arguments(Touchy(), film=film, info=Touchy())

    @strawberry.field
    async def source(self) -> Film | None:
        return Source(await models.Film.objects.aget(title="M"))


class block:
    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None


def with_variables(film, self, info, request):
    cls = model = instance = queryset = field = args = Touchy()  # noqa: F841
    return film.director.name


def with_arguments(*args, **kwargs):
    return kwargs["film"].director.name


schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
plain_schema = strawberry.Schema(Query)
urlpatterns = [path("", AsyncGraphQLView.as_view(schema=schema))]


@pytest.mark.parametrize("field", ["inBlock", "inClause", "inVariables", "inArguments"])
async def test_objects_near_a_hit(field):
    """
    No object in the frames around a hit is asked for anything.
    """
    with capture_hits() as hits:
        await execute(schema, f"{{ {field} }}")

    assert TOUCHED == []
    assert [(hit.relation, hit.graphql_path, hit.outcome) for hit in hits] == [
        ("testapp.Film.director", field, "raised")
    ]


async def test_source():
    """
    Nor is the object that a field belongs to.
    """
    await execute(plain_schema, "{ source { directorName } }")
    expected = list(TOUCHED)
    TOUCHED.clear()

    with capture_hits() as hits:
        await execute(schema, "{ source { directorName } }")

    assert expected == TOUCHED
    assert [(hit.relation, hit.graphql_path) for hit in hits] == [
        ("testapp.Film.director", "source.directorName")
    ]


async def test_lazy_user_as_source():
    """
    A resolver that returns the lazy user is told of where the executor looks at it.
    """
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate(username="ada"))

    with capture_hits() as hits:
        body = {"query": "query Me { me { username } }"}
        answer = await in_task(client.post("/", body, content_type="application/json"))

    assert answer.json()["data"] == {"me": None}
    assert [(hit.relation, hit.access, hit.graphql_path, hit.outcome) for hit in hits] == [
        ("request.user", "lazy_user", "me", "raised")
    ]


class WithTouchyRequest:
    @property
    def request(self):
        raise LookupError("no request here")


CONTEXTS = {
    "touchy_request": WithTouchyRequest,
    "touchy": Touchy,
    "touchy_item": lambda: {"request": Touchy()},
    "list": list,
    "str": str,
    "none": lambda: None,
}


@pytest.mark.parametrize("name", CONTEXTS)
async def test_context(name):
    """
    An operation works, and its hits are told, with whatever the project takes for a context.
    """
    context, query = CONTEXTS[name](), "{ inArguments __typename }"
    plain = await execute(plain_schema, query, context_value=context)

    with capture_hits() as hits:
        guarded = await execute(schema, query, context_value=context)

    expected = plain.data, [error.formatted for error in plain.errors]
    assert (guarded.data, [error.formatted for error in guarded.errors]) == expected
    assert [(hit.graphql_path, hit.http_method) for hit in hits] == [("inArguments", None)]


async def test_lazy_context():
    """
    A lazy context is not evaluated for an operation without a hit.
    """
    evaluated = []
    context = SimpleLazyObject(lambda: evaluated.append(1))

    with async_guard.guarded():
        await execute(schema, "{ __typename }", context_value=context)

    assert evaluated == []


async def test_keys_of_a_data_loader():
    """
    The keys that a DataLoader's function gets are left alone.
    """

    class Key(Touchy):
        __hash__ = object.__hash__

    async def load(keys):
        names = [each.name for each in models.Director.objects.all()]
        return names[: len(keys)]

    @strawberry.type
    class Query:
        @strawberry.field
        async def name(self) -> str | None:
            return await DataLoader(load).load(Key())

    with capture_hits() as hits:
        await execute(strawberry.Schema(Query, extensions=[AsyncGuardExtension]), "{ name }")

    assert TOUCHED == []
    assert [hit.outcome for hit in hits] == ["raised"]


async def test_touchy_task():
    """
    Neither are the variables of a plain task.
    """

    async def work(request, info, user):
        film = await models.Film.objects.aget(title="M")
        with block(user, request):
            return film.director.name

    with capture_hits() as hits:
        task = asyncio.create_task(work(Touchy(), Touchy(), Touchy()))
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)

    assert TOUCHED == []
    assert [hit.outcome for hit in hits] == ["raised"]
