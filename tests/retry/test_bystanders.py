"""Who does not await what a retry gives gets the value, or Django's refusal: never a promise."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest
import strawberry
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from strawberry.extensions import FieldExtension, SchemaExtension
from strawberry.permission import BasePermission, PermissionExtension

from async_guard import guarded, no_retry, retrying, routes
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.retry.batching import load_relation
from tests.testapp.models import Director, Film, Membership

pytestmark = pytest.mark.django_db(transaction=True)
who = ContextVar("who", default="nobody")


class NoFilms(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, **kwargs):
        return not Film.objects.exists()


class Either(BasePermission):
    message = "Denied."

    def __init__(self, *parts):
        self.parts = parts

    def has_permission(self, source, info, **kwargs):
        return any(each.has_permission(source, info, **kwargs) for each in self.parts)


class Later(BasePermission):
    async def has_permission(self, source, info, **kwargs):
        return True


class Asking(FieldExtension):
    """Asks permissions of its own without awaiting them."""

    def __init__(self, *permissions):
        self.permissions = permissions

    async def resolve_async(self, next_, source, info, **kwargs):
        if not any(each.has_permission(source, info) for each in self.permissions):
            raise PermissionError("Denied.")
        return await next_(source, info, **kwargs)


class Hiding(PermissionExtension):
    async def resolve_async(self, next_, source, info, **kwargs):
        found = await super().resolve_async(next_, source, info, **kwargs)
        return None if isinstance(found, str) else found


class Redacting(SchemaExtension):
    def resolve(self, _next, root, info, *args, **kwargs):
        found = _next(root, info, *args, **kwargs)
        return "[redacted]" if isinstance(found, str) else found


class Passing(SchemaExtension):
    def resolve(self, _next, root, info, *args, **kwargs):
        return _next(root, info, *args, **kwargs)


class Elevating(SchemaExtension):
    def resolve(self, _next, root, info, *args, **kwargs):
        token = who.set("admin")
        try:
            return _next(root, info, *args, **kwargs)
        finally:
            who.reset(token)


def schema_of(query, *extensions):
    return strawberry.Schema(query, extensions=[AsyncGuardExtension, *extensions])


def query_of(**fields):
    """Return a type whose fields are *fields*."""
    return strawberry.type(type("Query", (), fields))


def title():
    @strawberry.field
    def title() -> str | None:
        return Film.objects.get().title

    return title


async def answers(schema, text="{ title }", times=3):
    found = [await schema.execute(text) for _ in range(times)]
    return [each.data or [error.message for error in each.errors] for each in found]


DENIED = "Denied."
REFUSED = "You cannot call this from an async context - use a thread or sync_to_async."


@pytest.mark.asyncio
async def test_permission_of_two_fields(film, rerun):
    """
    A permission of an asynchronous field that another one asks is not taken for granted.
    """
    shared = NoFilms()

    async def later() -> str | None:
        return "secret"

    def now() -> str | None:
        return "secret"

    either, alone = PermissionExtension([Either(shared)]), PermissionExtension([shared])
    schema = schema_of(
        query_of(
            later=strawberry.field(later, extensions=[alone]),
            now=strawberry.field(now, extensions=[either]),
            same=strawberry.field(now, extensions=[alone]),
        )
    )

    found = [await schema.execute("{ later now same }") for _ in range(3)]

    assert [each.data for each in found] == [{"later": None, "now": None, "same": None}] * 3
    assert {error.message for each in found for error in each.errors} == {DENIED}


@pytest.mark.asyncio
async def test_permission_of_an_extension(film, rerun):
    """
    An extension that asks permissions without awaiting them meets Django's refusal.
    """

    async def title() -> str | None:
        return "secret"

    field = strawberry.field(title, extensions=[Asking(NoFilms())])

    assert await answers(schema_of(query_of(title=field))) == [{"title": None}] * 3


@pytest.mark.asyncio
async def test_extension_that_looks_at_the_value(film, rerun):
    """
    An extension that looks at what an asynchronous permission lets through sees the value.
    """
    field = title()
    field.extensions.append(Hiding([Later()]))

    assert await answers(schema_of(query_of(title=field))) == [{"title": None}] * 3


@pytest.mark.parametrize(
    ("extension", "expected"),
    [(Redacting, None), (Passing, "Stalker"), (Elevating, "Stalker")],
)
@pytest.mark.asyncio
async def test_schema_extension(extension, expected, film, rerun):
    """
    A schema extension that looks at the values of fields sees each of them, or the refusal.
    """
    schema = schema_of(query_of(title=title()), extension)

    assert await answers(schema) == [{"title": expected}] * 3


@pytest.mark.asyncio
async def test_schema_extension_under_resume(film, resume):
    """
    Under resume it sees the value itself.
    """
    schema = schema_of(query_of(title=title()), Redacting)

    assert await answers(schema) == [{"title": "[redacted]"}] * 3


@pytest.mark.asyncio
async def test_variable_that_was_reset(film, rerun):
    """
    What was undone since a call was handed in is not brought back with its result.
    """

    @strawberry.type
    class Inner:
        @strawberry.field
        def seen(self) -> str:
            return who.get()

    @strawberry.field
    def inner() -> Inner:
        Film.objects.get()
        return Inner()

    class Once(SchemaExtension):
        def resolve(self, _next, root, info, *args, **kwargs):
            if info.field_name != "inner":
                return _next(root, info, *args, **kwargs)
            token = who.set("admin")
            try:
                return _next(root, info, *args, **kwargs)
            finally:
                who.reset(token)

    schema = schema_of(query_of(inner=inner), Once)

    assert await answers(schema, "{ inner { seen } }") == [{"inner": {"seen": "nobody"}}] * 3


@pytest.mark.parametrize("mode", ["rerun", "resume"])
@pytest.mark.asyncio
async def test_synchronous_execution(mode, film):
    """
    What was learned in the loop does not reach the same schema where it is executed in a thread.
    """
    schema = schema_of(query_of(title=title()))

    def execute():
        return schema.execute_sync("{ title }").data

    with retrying(mode):
        first = await answers(schema)
        assert len(routes()) == (1 if mode == "rerun" else len(routes()))
        second = await sync_to_async(execute)()

    assert (first, second) == ([{"title": "Stalker"}] * 3, {"title": "Stalker"})


@pytest.mark.asyncio
async def test_synchronous_execution_in_the_loop(film, rerun):
    """
    ``execute_sync()`` in the loop can await nothing: Django's refusal stands.
    """
    schema = schema_of(query_of(title=title()))

    result = schema.execute_sync("{ title }")

    assert (result.data, [each.message for each in result.errors]) == ({"title": None}, [REFUSED])


@pytest.mark.asyncio
async def test_call_that_waits_for_another(film, rerun):
    """
    A call in the worker that waits for the loop, which needs the worker again, gets it.
    """

    @guarded
    def inner():
        return Film.objects.get().title

    @guarded
    def outer():
        return Director.objects.get().name, async_to_sync(inner_later)()

    async def inner_later():
        return await inner()

    found = [await asyncio.wait_for(outer(), 5) for _ in range(3)]

    assert found == [("Tarkovsky", "Stalker")] * 3


@pytest.mark.asyncio
async def test_stop_iteration_of_a_failed_retry(film, rerun):
    """
    A first run that ended with StopIteration keeps nobody waiting when its retry fails.
    """

    @guarded
    def first():
        try:
            rows = list(Film.objects.all())
        except Exception:
            rows = []
        if rows:
            raise OperationalError("gone")
        return next(iter(rows))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(first(), 5)


@pytest.mark.asyncio
async def test_operations_share_no_object(film, rerun):
    """
    Two operations of one hop load a relation each for itself, in their own context.
    """
    await Film.objects.acreate(title="Solaris", director_id=film.director_id)

    @strawberry.type
    class FilmType:
        @strawberry.field
        def viewer(self) -> str:
            found = self.director
            found.viewer = getattr(found, "viewer", None) or who.get()
            return found.viewer

    @strawberry.field
    async def films() -> list[FilmType]:
        return [each async for each in Film.objects.all()]

    schema = schema_of(query_of(films=films))

    async def seen_by(name):
        who.set(name)
        result = await schema.execute("{ films { viewer } }")
        return [each["viewer"] for each in result.data["films"]]

    found = await asyncio.gather(*(asyncio.create_task(seen_by(each)) for each in "ab"))

    assert found == [["a", "a"], ["b", "b"]]


@pytest.mark.asyncio
async def test_fields_of_a_base_type(film):
    """
    A field that two types inherit is denied for the one that the settings name.
    """

    @strawberry.interface
    class Base:
        @strawberry.field(permission_classes=[Later])
        def title(self) -> str | None:
            return Film.objects.get().title

    @strawberry.type
    class A(Base):
        pass

    @strawberry.type
    class B(Base):
        pass

    schema = schema_of(
        query_of(
            a=strawberry.field(resolver=lambda: A(), graphql_type=A),
            b=strawberry.field(resolver=lambda: B(), graphql_type=B),
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("async_guard.retry.policy.get_settings", lambda: Denied)
        with retrying("rerun"):
            found = await answers(schema, "{ a { title } b { title } }", times=2)

    assert found == [{"a": {"title": "Stalker"}, "b": {"title": None}}] * 2


class Denied:
    RETRY_ALLOW = ()
    RETRY_DENY = ("B.*",)


@pytest.mark.asyncio
async def test_other_schema(film, rerun):
    """
    A schema without the extension is left alone, also where it has the same types.
    """

    @strawberry.type
    class Query:
        @strawberry.field(permission_classes=[Later])
        def title(self) -> str | None:
            return Film.objects.get().title

    ours, other = schema_of(Query), strawberry.Schema(Query)

    assert await answers(ours) == [{"title": "Stalker"}] * 3
    assert await answers(other) == [{"title": None}] * 3


@pytest.mark.asyncio
async def test_discarded_schema(film, rerun):
    """
    A schema that nobody has any more is not kept, and its types have what is theirs again.
    """

    @strawberry.type
    class Query:
        @strawberry.field(permission_classes=[Later])
        def title(self) -> str | None:
            return "Stalker"

    schema = schema_of(Query)
    await answers(schema)
    found = weakref.ref(schema._schema)
    del schema
    gc.collect()

    assert found() is None
    with retrying("off"):
        [definition] = Query.__strawberry_definition__.fields
        assert "get_result" not in vars(definition)


@no_retry
class Marked(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, **kwargs):
        return Film.objects.exists()


@pytest.mark.asyncio
async def test_marks_where_they_are_put(film, rerun):
    """
    ``no_retry`` on a field or on a permission means its resolver, and the field that asks it.
    """
    marked = no_retry(title())
    asked = title()
    asked.extensions.append(PermissionExtension([Marked()]))
    schema = schema_of(query_of(marked=marked, asked=asked))

    found = [await schema.execute("{ marked asked }") for _ in range(2)]

    assert [each.data for each in found] == [{"marked": None, "asked": None}] * 2
    await sync_to_async(connections.close_all)()


@pytest.mark.asyncio
async def test_rows_that_can_be_read_once(film, rerun):
    """
    An iterator that the first run was refused in the middle of is no empty list; later ones go to
    the worker at once.
    """

    @strawberry.type
    class FilmType:
        title: str

    @strawberry.type
    class Page:
        rows: list[FilmType] | None

    @strawberry.field
    def page() -> Page:
        return Page(rows=(each for films in [Film.objects.all()] for each in films))

    found = await answers(schema_of(query_of(page=page)), "{ page { rows { title } } }")

    healed = {"page": {"rows": [{"title": "Stalker"}]}}
    assert found == [{"page": {"rows": None}}, healed, healed]


def test_one_row_twice():
    """
    Of a one-to-one relation what is found leads back to one object, so a row that is there twice is
    not batched.
    """
    for name in "abc":
        Membership.objects.create(user=User.objects.create_user(name), motto=name)
    users = list(User.objects.order_by("pk"))
    twice = User.objects.get(pk=users[0].pk)

    loaded = load_relation([*users, twice], "membership")

    assert loaded == {id(users[1]), id(users[2])}
