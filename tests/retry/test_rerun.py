"""Synchronous resolvers that Django refuses run again in the worker, and only those that may."""

import asyncio
import contextvars
import functools
import threading
from collections import Counter
from zoneinfo import ZoneInfo

import pytest
import strawberry
import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Paginator
from django.db import OperationalError, connection, connections
from django.test import override_settings
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from strawberry.dataloader import DataLoader
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission

from async_guard import guarded, no_retry, retry_safe, retrying, routes
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.retry.modes import switch
from async_guard.retry.watch import watch
from async_guard.testing import capture_hits
from tests.testapp.models import Director, Film, Membership, Review, Studio

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


def title_or_none():
    try:
        return Film.objects.get().title
    except Exception:
        return None


BODIES = Counter()
variable = contextvars.ContextVar("variable", default=None)


class Allowed(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, **kwargs):
        return source.director.name == "Tarkovsky"


class DeniedOnError(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, **kwargs):
        try:
            return source.director.name == "Tarkovsky"
        except Exception:
            return False


class AllowedLater(BasePermission):
    message = "Denied."

    async def has_permission(self, source, info, **kwargs):
        await asyncio.sleep(0)
        return info.context is None or not info.context.get("denied")


class OnlyPlan(BasePermission):
    message = "Denied."

    def has_permission(self, source, info, plan):
        return Film.objects.filter(title=plan).exists()


class Shout(FieldExtension):
    def resolve(self, next_, source, info, **kwargs):
        return f"{next_(source, info, **kwargs)}!"


@strawberry.type
class StudioType:
    name: str


@strawberry.type
class DirectorType:
    name: str
    studio: StudioType | None


@strawberry.type
class ReviewType:
    text: str


@strawberry.type
class PageType:
    number: int


async def later(value):
    await asyncio.sleep(0)
    return value


async def load(keys):
    return [f"loaded {key}" for key in keys]


@strawberry.type
class FilmType:
    title: str
    director: DirectorType

    @strawberry.field
    def director_name(self) -> str:
        BODIES["director_name"] += 1
        return self.director.name

    @strawberry.field
    def hidden(self) -> str | None:
        BODIES["hidden"] += 1
        try:
            return self.director.name
        except Exception:
            return None

    @strawberry.field
    def by_name(self) -> str | None:
        try:
            return self.director.name
        except SynchronousOnlyOperation:
            return "asked for"

    @strawberry.field
    def broken(self) -> str:
        raise ValueError(f"no {self.director.name}")

    @strawberry.field(permission_classes=[Allowed])
    def secret(self) -> str:
        return "secret"

    @strawberry.field(permission_classes=[DeniedOnError])
    def hidden_secret(self) -> str | None:
        return "secret"

    @strawberry.field(permission_classes=[Allowed])
    async def async_secret(self) -> str:
        return "secret"

    @strawberry.field(permission_classes=[AllowedLater, Allowed])
    def permitted_later(self) -> str:
        BODIES["permitted_later"] += 1
        return self.director.name

    @strawberry.field(permission_classes=[AllowedLater])
    def listed_later(self) -> list[ReviewType]:
        return Review.objects.filter(film_id=self.pk).order_by("pk")

    @strawberry.field(extensions=[Shout()])
    def loud(self) -> str:
        return self.director.name

    @strawberry.field
    def reviews(self) -> list[ReviewType]:
        return Review.objects.filter(film_id=self.pk).order_by("pk")

    @strawberry.field
    def review_rows(self) -> list[ReviewType]:
        return (each for each in Review.objects.filter(film_id=self.pk).order_by("pk"))

    @strawberry.field(name="managed")
    def managed_reviews(self) -> list[ReviewType]:
        return Film.reviews.rel.related_model.objects

    @strawberry.field
    def counted_page(self) -> PageType:
        return Paginator(Review.objects.filter(film_id=self.pk).order_by("pk"), 5).get_page(1)

    @strawberry.field
    def review_page(self) -> list[ReviewType]:
        return Paginator(Review.objects.filter(film_id=self.pk).order_by("pk"), 5).get_page(1)

    @strawberry.field
    def in_context(self) -> str:
        return f"{variable.get()} {self.director.name}"

    @strawberry.field
    def in_language(self) -> str:
        name, language = self.director.name, translation.get_language()
        return f"{name} {language} {timezone.get_current_timezone_name()}"

    @strawberry.field
    @no_retry
    def never(self) -> str:
        return self.director.name

    @strawberry.field
    def loaded(self, info: strawberry.Info) -> str:
        return info.context["loader"].load(self.director.name)

    @strawberry.field
    def in_task(self) -> str:
        BODIES["in_task"] += 1
        return asyncio.get_running_loop().create_task(later(Film.objects.get(pk=self.pk).title))

    @strawberry.field
    def fails(self) -> str:
        _ = self.director
        raise OperationalError("the database is gone")


@strawberry.type
class Query:
    @strawberry.field
    async def films(self) -> list[FilmType]:
        return [film async for film in Film.objects.order_by("pk")]

    @strawberry.field
    def by(self, source: str) -> list[FilmType]:
        return Film.objects.filter(director__name=source)

    @strawberry.field(permission_classes=[OnlyPlan])
    async def planned(self, plan: str) -> str:
        return plan

    @strawberry.field
    def lazy(self) -> FilmType:
        return SimpleLazyObject(Film.objects.get)

    @strawberry.field
    async def joined(self) -> list[FilmType]:
        return [film async for film in Film.objects.select_related("director")]


@strawberry.type
class Payload:
    ok: bool
    film: strawberry.Private[Film]

    @strawberry.field
    def director(self) -> DirectorType:
        return self.film.director


@strawberry.type
class Nested:
    @strawberry.mutation
    def rename(self) -> str:
        BODIES["nested"] += 1
        return Film.objects.get().title


@strawberry.type
class Mutation:
    @strawberry.mutation
    def rename(self, title: str) -> str:
        BODIES["rename"] += 1
        return Film.objects.get().title

    @strawberry.mutation
    @retry_safe
    def rename_safely(self, title: str) -> str:
        BODIES["rename_safely"] += 1
        return Film.objects.get().title

    @strawberry.mutation
    async def touch(self) -> Payload:
        return Payload(ok=True, film=await Film.objects.afirst())

    @strawberry.field
    def nested(self) -> Nested:
        return Nested()


schema = strawberry.Schema(Query, Mutation, extensions=[AsyncGuardExtension])


@pytest.fixture(autouse=True)
def counted_bodies():
    BODIES.clear()


def two_films():
    studio = Studio.objects.create(name="Mosfilm")
    for number, title in enumerate(("Solaris", "Mirror")):
        director = Director.objects.create(name=f"Director {number}", studio=studio)
        film = Film.objects.create(title=title, director=director)
        Review.objects.create(film=film, user=User.objects.create(username=title), text=title)
    connections.close_all()


async def run(text, settings=(), mode="rerun"):
    """Execute an operation; return the data, the messages of the errors, and the hits."""
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, **dict(settings)})
    with changed, capture_hits() as hits, retrying(mode):
        result = await schema.execute(text)
    return result.data, [error.message for error in result.errors or ()], hits


def told(hits):
    return [(hit.outcome, hit.retry_strategy, hit.count) for hit in hits]


@pytest.mark.parametrize("mode", ["rerun", "resume"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("director { name }", {"name": "Tarkovsky"}),
        ("directorName", "Tarkovsky"),
        ("hidden", "Tarkovsky"),
        ("secret", "secret"),
        ("hiddenSecret", "secret"),
        ("asyncSecret", "secret"),
        ("permittedLater", "Tarkovsky"),
        ("loud", "Tarkovsky!"),
        ("reviews { text }", [{"text": "long"}]),
        ("reviewRows { text }", [{"text": "long"}]),
        ("managed { text }", [{"text": "long"}]),
        ("reviewPage { text }", [{"text": "long"}]),
        ("countedPage { number }", {"number": 1}),
    ],
)
async def test_healed(film, field, value, mode):
    """
    A field that Django refuses gives its value, and the log says that it was retried.
    """
    await sync_to_async(_review)(film)

    data, errors, hits = await run(f"{{ films {{ {field} }} }}", mode=mode)

    assert errors == []
    assert list(data["films"][0].values()) == [value]
    assert {hit.outcome for hit in hits} == {"retried"}


def _review(film):
    user = User.objects.create(username="ada")
    Review.objects.create(film=film, user=user, text="long")


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_names_of_arguments(film, mode):
    """
    An argument of a field may have any name.
    """
    data, errors, _ = await run(
        '{ by(source: "Tarkovsky") { title } planned(plan: "Stalker") }', mode=mode
    )

    assert (data, errors) == ({"by": [{"title": "Stalker"}], "planned": "Stalker"}, [])


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_lazy_object(film, mode):
    """
    What is fetched when it is looked at, such as ``request.user``, is fetched in the worker.
    """
    with capture_hits() as hits, retrying(mode):
        for _ in range(2):
            result = await schema.execute("{ lazy { title } }")

    assert (result.data, result.errors) == ({"lazy": {"title": "Stalker"}}, None)
    assert told(hits) == [("retried", mode, 1), ("retried", "rerun", 1)]


async def test_permission_denies(film):
    """
    A permission that the retry denies is the answer.
    """
    await Director.objects.aupdate(name="Tati")

    for field in ("secret", "asyncSecret"):
        data, errors, hits = await run(f"{{ films {{ {field} }} }}")
        assert (data, errors) == (None, ["Denied."])
        assert {hit.outcome for hit in hits} == {"retried"}


async def test_asynchronous_permission_denies(film):
    """
    A resolver that is run again beside an asynchronous permission is not when that denies it.
    """
    fields = "{ films { permittedLater listedLater { text } } }"
    with retrying("rerun"):
        await schema.execute(fields)
        BODIES.clear()
        result = await schema.execute(fields, context_value={"denied": True})

    assert (result.data, result.errors[0].message, BODIES) == (None, "Denied.", {})


async def test_exception_of_the_rerun(film):
    """
    What the second run raises is the answer, not a failure of the retry.
    """
    data, errors, hits = await run("{ films { broken } }")

    assert (data, errors) == (None, ["no Tarkovsky"])
    assert told(hits) == [("retried", "rerun", 1)]


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_needs_the_loop_too(film, mode, batching):
    """
    What asks for the event loop as well, as a ``DataLoader`` does, has both, learned or not.
    """
    await sync_to_async(two_films)()
    names = ["Tarkovsky", "Director 0", "Director 1"]
    expected = {"films": [{"loaded": f"loaded {name}"} for name in names]}
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_BATCHING": batching})

    with changed, capture_hits() as hits, retrying(mode):
        for _ in range(3):
            context = {"loader": DataLoader(load)}
            result = await schema.execute("{ films { loaded } }", context_value=context)
            assert (result.data, result.errors) == (expected, None)

    assert {hit.outcome for hit in hits} == {"retried"}


async def test_needs_the_loop_and_the_database(film):
    """
    Where both cannot be had in turn, resume carries it out in the loop, and learns no route.
    """
    with retrying("resume"):
        for _ in range(4):
            result = await schema.execute("{ films { inTask } }")
            assert (result.data, result.errors) == ({"films": [{"inTask": "Stalker"}]}, None)
        names = [route.name for route in routes()]

    assert (names, BODIES["in_task"]) == ([], 5)


async def test_needs_the_loop_and_the_database_in_a_rerun(film):
    """
    A rerun cannot give it both: the refusal stands, as without a retry.
    """
    for _ in range(2):
        data, errors, hits = await run("{ films { inTask } }")

        assert (data, [error.split(" - ")[0] for error in errors]) == (
            None,
            ["You cannot call this from an async context"],
        )
        assert [hit.outcome for hit in hits] == ["retried", "raised"]


async def test_caught_by_name(film):
    """
    Code that catches the refusal by name decided to: it is not run again.
    """
    data, errors, hits = await run("{ films { byName } }")

    assert (data, errors) == ({"films": [{"byName": "asked for"}]}, [])
    assert told(hits) == [("handled", None, 1)]


async def test_first_and_learned(film):
    """
    The first request runs a body twice, once in all for the other rows; then nothing is tried.
    """
    await sync_to_async(two_films)()
    text = "{ films { directorName } }"
    with retrying("rerun"):
        with capture_hits() as first:
            await schema.execute(text)
        bodies = BODIES["director_name"]
        names = [(route.name, route.relation) for route in routes()]
        with capture_hits() as later:
            await schema.execute(text)

    assert bodies == 4
    assert BODIES["director_name"] - bodies == 3
    assert names == [("FilmType.directorName", "director")]
    assert told(first) == [("retried", "rerun", 1), ("retried", "rerun", 2)]
    assert told(later) == [("retried", "rerun", 3)]
    assert [hit.retry_hop_size for hit in (*first, *later)] == [3, 3, 3]


async def test_rows_that_are_loaded_take_no_route(film):
    """
    Where the rows come with the relation, a learned field runs in the loop, and nothing is told.
    """
    with retrying("rerun"):
        await schema.execute("{ films { directorName } }")
        with capture_hits() as hits:
            result = await schema.execute("{ joined { directorName } }")
        uses = [route.uses for route in routes()]

    assert result.data == {"joined": [{"directorName": "Tarkovsky"}]}
    assert (hits, uses) == ([], [0])


@pytest.mark.parametrize("batching", [True, False])
async def test_queries(film, batching):
    """
    A relation of the rows is one query for all of them; without batching one for each.
    """
    await sync_to_async(two_films)()
    settings = {"RETRY_BATCHING": batching}

    data, _errors, hits = await run("{ films { directorName } }", settings)

    assert [each["directorName"] for each in data["films"]] == [
        "Tarkovsky",
        "Director 0",
        "Director 1",
    ]
    assert {(hit.retry_queries, hit.retry_batched) for hit in hits} == {
        (1, True) if batching else (3, False)
    }


async def test_missing_one_to_one(film):
    """
    A missing reverse one-to-one raises in a batch what it raises alone.
    """
    ada, _ = [await User.objects.acreate(username=name) for name in ("ada", "bob")]
    await Membership.objects.acreate(user=ada, motto="In the dark", favourite=film)

    @strawberry.type
    class UserType:
        @strawberry.field
        def motto(self) -> str:
            try:
                return self.membership.motto
            except User.membership.RelatedObjectDoesNotExist as error:
                return str(error)

    @strawberry.type
    class Query:
        @strawberry.field
        async def users(self) -> list[UserType]:
            return [user async for user in User.objects.order_by("username")]

    mottos = {}
    for batching in (True, False):
        with override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_BATCHING": batching}):
            users = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
            with capture_hits() as hits, retrying("rerun"):
                result = await users.execute("{ users { motto } }")
        mottos[batching] = result.data
        assert hits[0].retry_batched is batching
    assert (
        mottos[True]
        == mottos[False]
        == {"users": [{"motto": "In the dark"}, {"motto": "User has no membership."}]}
    )


async def test_dangling_foreign_key(film):
    """
    A row that is not there raises ``DoesNotExist``, in a batch as alone.
    """
    if connection.vendor != "sqlite":
        pytest.skip("other databases do not let a foreign key dangle")
    await sync_to_async(two_films)()
    await sync_to_async(_dangle)(film)

    answers = [
        (await run("{ films { directorName } }", {"RETRY_BATCHING": batching}))[:2]
        for batching in (True, False)
    ]

    assert answers[0] == answers[1]
    assert answers[0][1] == ["Director matching query does not exist."]


def _dangle(film):
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        cursor.execute("update testapp_film set director_id = 12345 where id = %s", [film.pk])
    connection.close()


async def test_mutation_root_fields_never_run_twice(film):
    """
    Root fields of a mutation are not run again, nor those of a namespace, unless marked.
    """
    for text, name, count, heals in [
        ('mutation { rename(title: "x") }', "rename", 1, False),
        ("mutation { nested { rename } }", "nested", 1, False),
        ('mutation { renameSafely(title: "x") }', "rename_safely", 2, True),
    ]:
        _data, errors, hits = await run(text)
        assert BODIES[name] == count, name
        assert bool(errors) is not heals
        assert [hit.outcome for hit in hits] == ["retried" if heals else "raised"]


async def test_mutation_root_field_is_resumed(film):
    """
    Under resume they are carried out, once.
    """
    data, errors, hits = await run('mutation { rename(title: "x") }', mode="resume")

    assert (data, errors, BODIES["rename"]) == ({"rename": "Stalker"}, [], 1)
    assert [hit.outcome for hit in hits] == ["retried"]


async def test_payload_of_a_mutation(film):
    """
    Fields of a mutation's payload are run again.
    """
    data, errors, _ = await run("mutation { touch { ok director { name } } }")

    assert (data, errors) == ({"touch": {"ok": True, "director": {"name": "Tarkovsky"}}}, [])


@pytest.mark.parametrize("mode", ["rerun", "resume"])
@pytest.mark.parametrize(
    "settings",
    [
        {"RETRY_DENY": ["FilmType.directorName"]},
        {"RETRY_DENY": ["testapp.Film.director"]},
        {"RETRY_DENY": ["tests/retry/*"]},
        {"RETRY_ALLOW": ["FilmType.other"]},
    ],
)
async def test_denied(film, settings, mode):
    """
    What the settings deny stays refused.
    """
    data, _errors, hits = await run("{ films { directorName } }", settings, mode)

    assert data is None
    assert [hit.outcome for hit in hits] == ["raised"]


async def test_denied_at_run_time(film):
    """
    What is denied from now on is refused from now on, also where a route was learned.
    """
    with retrying("rerun"):
        await schema.execute("{ films { directorName } }")
        with override_settings(ASYNC_GUARD={"RETRY_DENY": ["FilmType.*"]}):
            denied = await schema.execute("{ films { directorName } }")
        allowed = await schema.execute("{ films { directorName } }")

    assert (denied.data, allowed.errors) == (None, None)


async def test_allowed(film):
    """
    Where anything is allowed by name, that is retried.
    """
    _data, errors, _ = await run("{ films { directorName } }", {"RETRY_ALLOW": ["FilmType.*"]})

    assert errors == []


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_no_retry(film, mode):
    """
    In a function marked ``no_retry`` nothing is retried.
    """
    data, _errors, hits = await run("{ films { never } }", mode=mode)

    assert data is None
    assert [hit.outcome for hit in hits] == ["raised"]


@no_retry
def director_of(film):
    return film.director.name


def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_no_retry_below_another_function(film, mode):
    """
    A marked function that a retried one calls is left as it is, and so is what has called it.
    """

    @guarded
    def name():
        return director_of(film)

    with capture_hits() as hits, retrying(mode), pytest.raises(SynchronousOnlyOperation):
        await name()

    assert [hit.outcome for hit in hits] == ["raised"]


async def test_no_retry_at_every_call():
    """
    A mark that is set again with every request, as ``method_decorator`` does, is set once.
    """
    before = len(watch.never)
    for _ in range(3):
        no_retry(functools.wraps(director_of)(functools.partial(director_of)))

    assert len(watch.never) == before


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_no_retry_of_a_decorated_function(film, mode):
    """
    The mark is that of one function, not of all that have a decorator in common with it.
    """

    @no_retry
    @decorated
    @decorated
    def marked():
        return film.director.name

    @guarded
    @decorated
    @decorated
    def free():
        return film.director.name

    with retrying(mode):
        with pytest.raises(SynchronousOnlyOperation):
            await guarded(lambda: marked())()
        assert await free() == "Tarkovsky"


async def test_full_queue(film):
    """
    Where there is no room, the refusal is the answer, and told as such.
    """
    for mode in ("rerun", "resume"):
        data, _errors, hits = await run("{ films { directorName } }", {"RETRY_QUEUE_SIZE": 0}, mode)
        assert data is None
        assert [hit.outcome for hit in hits] == ["retry_refused"]


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_reference_resolver(film, mode):
    """
    An entity is found for a federation's router, though Strawberry takes apart what it asks with.
    """

    @strawberry.federation.type(keys=["id"])
    class Film_:
        id: strawberry.ID
        title: str

        @classmethod
        def is_type_of(cls, obj, info):
            return isinstance(obj, Film)

        @classmethod
        def resolve_reference(cls, id: strawberry.ID):
            return Film.objects.get(pk=id)

    entities = strawberry.federation.Schema(Query, types=[Film_], extensions=[AsyncGuardExtension])
    text = "query($of: [_Any!]!) { _entities(representations: $of) { ... on Film_ { title } } }"
    asked = [{"__typename": "Film_", "id": str(film.pk)}]
    with retrying(mode):
        for _ in ("first", "learned"):
            result = await entities.execute(text, {"of": asked})

            assert (result.data, result.errors) == ({"_entities": [{"title": "Stalker"}]}, None)


async def test_failed_retry(film):
    """
    A retry that the database fails gives the original answer; its error is attached.
    """
    with capture_hits() as hits, retrying("rerun"):
        result = await schema.execute("{ films { fails } }")

    original = result.errors[0].original_error
    assert type(original) is SynchronousOnlyOperation
    assert type(original.__context__) is OperationalError
    assert [hit.outcome for hit in hits] == ["retry_failed"]


async def test_breaker(film):
    """
    What keeps failing is not retried any more, until a while later one call is let through.
    """
    settings = {"ENABLED": False, "RETRY_MAX_FAILURES": 2, "RETRY_RESET_S": 0.1}
    with override_settings(ASYNC_GUARD=settings), capture_hits() as hits, retrying("rerun"):
        for _ in range(3):
            await schema.execute("{ films { fails } }")
        await asyncio.sleep(0.15)
        await schema.execute("{ films { fails } }")

    assert [hit.outcome for hit in hits] == [
        "retry_failed",
        "retry_failed",
        "retry_refused",
        "retry_failed",
    ]


async def test_breaker_counts_retries(film):
    """
    A retry counts once, however many hits were in it, and so does the one that is let through.
    """
    is_down = True

    @guarded
    def titles():
        found = [title_or_none() for _ in range(3)]
        if is_down and threading.current_thread() is not threading.main_thread():
            raise OperationalError("the database is gone")
        return found

    settings = {"RETRY_MAX_FAILURES": 2, "RETRY_RESET_S": 0.05, "RETRY_ROUTE_S": 0}
    with override_settings(ASYNC_GUARD=settings), capture_hits() as hits, retrying("rerun"):
        for _ in range(3):
            await titles()
        is_down = False
        await asyncio.sleep(0.1)
        found = await titles()

    outcomes = ["retry_failed", "retry_failed", "retry_refused", "retried"]
    assert [hit.outcome for hit in hits] == [each for each in outcomes for _ in range(3)]
    assert found == ["Stalker"] * 3


async def test_failed_retry_in_its_own_context(film):
    """
    The first answer of a call that a route had sent to the worker is asked for in its own context.
    """
    is_down = False

    @guarded
    def who(source):
        if is_down and threading.current_thread() is not threading.main_thread():
            raise OperationalError("the database is gone")
        return variable.get(), [each.title for each in source.films.all()] if not is_down else None

    async def asked_by(user):
        variable.set(user)
        return (await who(film.director))[0]

    film = await Film.objects.select_related("director").aget()
    with retrying("rerun"):
        await asked_by("nobody")
        is_down = True
        found = await asyncio.gather(asked_by("Kelvin"), asked_by("Snaut"))

    assert found == ["Kelvin", "Snaut"]


async def test_context_of_a_call_that_raises(film):
    """
    What a call has set in its context before it raises is set, as after ``sync_to_async``.
    """

    @guarded
    def broken():
        variable.set(film.director.name)
        raise LookupError

    variable.set(None)
    with retrying("rerun"), pytest.raises(LookupError):
        await broken()

    assert variable.get() == "Tarkovsky"


async def test_contexts(film):
    """
    The worker sees the context of the call.
    """
    variable.set("mine")

    data, _, _ = await run("{ films { inContext } }")

    assert data == {"films": [{"inContext": "mine Tarkovsky"}]}


async def test_language_and_time_zone(film):
    """
    The language and the time zone are the request's in the worker, too.
    """
    with retrying("rerun"), timezone.override(ZoneInfo("Europe/Berlin")):
        for _ in range(2):  # by a run in the loop, then by a route
            with translation.override("de"):
                result = await schema.execute("{ films { inLanguage } }")
                assert result.data == {"films": [{"inLanguage": "Tarkovsky de Europe/Berlin"}]}


async def test_routes_are_bounded_and_end(film):
    """
    A route is forgotten after its time, and there are not more than fingerprints.
    """
    with (
        override_settings(
            ASYNC_GUARD={"ENABLED": False, "RETRY_ROUTE_S": 0.05, "MAX_FINGERPRINTS": 1}
        ),
        retrying("rerun"),
    ):
        await schema.execute("{ films { directorName loud } }")
        assert len(routes()) == 1
        await asyncio.sleep(0.06)
        with capture_hits() as hits:
            await schema.execute("{ films { directorName } }")
        assert told(hits) == [("retried", "rerun", 1)]
        assert BODIES["director_name"] == 4
        routes().clear()
        assert len(routes()) == 0


async def test_sync_function(film):
    """
    A guarded synchronous function runs again; its exceptions are its own.
    """

    @guarded
    def name(suffix):
        return film.director.name + suffix

    with capture_hits() as hits, retrying("rerun"):
        assert await name("!") == "Tarkovsky!"
        with pytest.raises(TypeError):
            await name(1)

    assert told(hits) == [("retried", "rerun", 1), ("retried", "rerun", 1)]


class Describe:
    def __init__(self, film):
        self.film = film

    def __call__(self):
        return self.film.director.name


class DescribeLater(Describe):
    async def __call__(self):
        return self.film.director.name


async def test_whatever_can_be_called(film):
    """
    A ``partial`` and an object with ``__call__`` are guarded as functions are.
    """
    with retrying("rerun"):
        found = [
            await guarded(functools.partial(getattr, film, "director"))(),
            await guarded(Describe(await Film.objects.aget()))(),
        ]
    with retrying("resume"):
        found.append(await guarded(DescribeLater(await Film.objects.aget()))())

    assert [getattr(each, "name", each) for each in found] == ["Tarkovsky"] * 3


async def test_from_one_mode_to_another(film):
    """
    A function is run again also where the mode was another one before, without a pause.
    """

    @guarded
    def name():
        return film.director.name

    with retrying("resume"), retrying("rerun"):
        assert await name() == "Tarkovsky"


async def test_blocks_that_overlap():
    """
    Blocks of several tasks may end in any order: after the last one all is as it was.
    """
    resume, rerun = retrying("resume"), retrying("rerun")
    modes = []

    resume.__enter__()
    rerun.__enter__()
    for block in (resume, rerun):
        modes.append(switch.mode)
        block.__exit__(None, None, None)
    modes.append(switch.mode)

    assert modes == ["rerun", "rerun", "off"]


async def test_fields_are_given_back(film):
    """
    When the retry is over, every field has the resolver that it had.
    """
    field = schema._schema.type_map["FilmType"].fields["directorName"]
    before, sdl = field.resolve, schema.as_str()
    with retrying("rerun"):
        await schema.execute("{ films { title } }")
        assert field.resolve is not before
        assert schema.as_str() == sdl

    assert field.resolve is before


async def test_concurrent_operations(film):
    """
    Operations that run at once share hops, and none gets the answer of another.
    """
    await sync_to_async(two_films)()
    with retrying("rerun"):
        answers = await asyncio.gather(
            *(schema.execute(f"{{ films {{ alias{n}: directorName }} }}") for n in range(30))
        )
    for number, answer in enumerate(answers):
        assert [each[f"alias{number}"] for each in answer.data["films"]] == [
            "Tarkovsky",
            "Director 0",
            "Director 1",
        ]


async def test_cancellation(film):
    """
    A cancelled operation takes none of the others with it.
    """
    with retrying("rerun"):
        tasks = [asyncio.create_task(schema.execute("{ films { loud } }")) for _ in range(10)]
        await asyncio.sleep(0.003)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)

    assert all(task.cancelled() or task.result().data for task in tasks)
    assert [task.result().data for task in tasks[1::2]] == [{"films": [{"loud": "Tarkovsky!"}]}] * 5


async def test_given_up(film):
    """
    What was refused is told also where an error elsewhere ends the operation meanwhile.
    """

    @strawberry.type
    class Query:
        @strawberry.field
        def title(self) -> str:
            return Film.objects.get().title

        @strawberry.field
        async def broken(self) -> str:
            raise ValueError

    with capture_hits() as hits, retrying("rerun"):
        schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
        await schema.execute("{ title broken }")
        await asyncio.sleep(0.1)

    assert len(hits) == 1
    assert hits[0].outcome in ("retried", "raised")


@pytest.mark.parametrize("batching", [True, False], ids=["ahead", "one by one"])
async def test_learned_hits_name_their_own_operation(film, batching):
    """
    What a route kept from being refused is told for the operation that it happened in.
    """
    await sync_to_async(two_films)()
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_BATCHING": batching})
    with changed, retrying("rerun"):
        await schema.execute("query First { films { directorName } }")
        with capture_hits() as hits:
            await schema.execute("query Second { rows: films { who: directorName } }")

    assert [
        (hit.operation_name, hit.graphql_path, hit.graphql_parent, hit.graphql_field, hit.count)
        for hit in hits
    ] == [("Second", "rows[].who", "Query.films", "FilmType.directorName", 3)]


async def test_learned_hits_of_two_operations_at_once(film):
    """
    Calls of two operations that share a hop are told for each of the two.
    """
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_BATCHING": False})
    with changed, retrying("rerun"):
        await schema.execute("{ films { directorName } }")
        with capture_hits() as hits:
            await asyncio.gather(
                *(schema.execute(f"query {name} {{ films {{ directorName }} }}") for name in "AB")
            )

    assert sorted((hit.operation_name, hit.count) for hit in hits) == [("A", 1), ("B", 1)]


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_every_learned_hit_is_captured(film, mode):
    """
    ``capture_hits()`` sees what the log only counts.
    """
    with retrying(mode):
        for _ in range(10):
            with capture_hits() as hits:
                await schema.execute("{ films { directorName } }")
            assert [(hit.outcome, hit.count, hit.retry_queries) for hit in hits] == [
                ("retried", 1, 1)
            ]


@pytest.mark.parametrize("mode", ["rerun", "resume"])
async def test_learned_hits_are_exposed(film, mode):
    """
    A response lists its hits, however often they were logged before.
    """
    exposing = {"ENABLED": False, "EXPOSE_IN_RESPONSE": "force"}
    with override_settings(ASYNC_GUARD=exposing), guarded(), retrying(mode):
        for _ in range(10):
            result = await schema.execute("query Q { films { directorName } }")
            listed = result.extensions["asyncGuard"]["hits"]
            assert [
                (
                    each["graphql.operation.name"],
                    each["async_guard.graphql.path"],
                    each["async_guard.outcome"],
                    each["async_guard.retry.queries"],
                )
                for each in listed
            ] == [("Q", "films[].directorName", "retried", 1)]


async def test_learned_hits_of_two_places(film):
    """
    A field that an operation selects in two places is told for each of them.
    """
    await sync_to_async(two_films)()
    text = "{ rows: films { who: directorName } films { directorName director { name } } }"
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_BATCHING": False})
    with changed, retrying("rerun"):
        await schema.execute("{ films { directorName } }")
        with capture_hits() as hits:
            await schema.execute(text)

    names = [hit for hit in hits if hit.graphql_field == "FilmType.directorName"]
    retried = {hit.graphql_path: hit.count for hit in names if hit.outcome == "retried"}
    assert retried == {"rows[].who": 3, "films[].directorName": 3}


async def test_learned_hits_outside_of_graphql(film):
    """
    Each task that a learned call was carried out for is named, with its own request.
    """
    alone = guarded(lambda row: row.director.name)

    async def serve(number):
        structlog.contextvars.bind_contextvars(request_id=f"r{number}")
        return await alone(await Film.objects.aget())

    with retrying("rerun"):
        await serve(0)
        with capture_hits() as hits:
            tasks = [asyncio.create_task(serve(number), name=f"task {number}") for number in (1, 2)]
            assert await asyncio.gather(*tasks) == ["Tarkovsky", "Tarkovsky"]

    keys = [(h.task, h.request_id, h.count, h.outcome, h.exception_type) for h in hits]
    assert sorted(keys) == [
        ("task 1", "r1", 1, "retried", None),
        ("task 2", "r2", 1, "retried", None),
    ]


async def test_learned_hit_of_a_cancelled_task(film):
    """
    A learned call that was carried out is told although nobody waits for it any more.
    """
    began, goes_on = threading.Event(), threading.Event()

    @guarded
    def slow(row):
        name = row.director.name
        began.set()
        goes_on.wait(5)
        return name

    with retrying("rerun"):
        goes_on.set()
        await slow(await Film.objects.aget())
        goes_on.clear(), began.clear()
        with capture_hits() as hits:
            task = asyncio.create_task(slow(await Film.objects.aget()))
            await asyncio.to_thread(began.wait, 5)
            task.cancel()
            goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)

    assert [(hit.outcome, hit.count) for hit in hits] == [("retried", 1)]


async def test_what_is_captured_tells_its_retry(film):
    """
    ``capture_hits()`` sees how a call was retried, however often that was logged before.
    """
    changed = override_settings(ASYNC_GUARD={"ENABLED": False, "RETRY_ROUTE_S": 0})
    with changed, retrying("rerun"):
        for _ in range(10):
            with capture_hits() as hits:
                await schema.execute("{ films { directorName } }")
            assert [(hit.retry_strategy, hit.retry_hop_size) for hit in hits] == [("rerun", 1)]
