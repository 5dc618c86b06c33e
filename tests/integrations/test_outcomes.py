"""How a hit below a GraphQL operation ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated

import pytest
import strawberry
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpResponse
from django.test import RequestFactory
from strawberry.dataloader import DataLoader
from strawberry.extensions import FieldExtension, MaskErrors, SchemaExtension
from strawberry.schema.config import StrawberryConfig

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.middleware import AsyncGuardMiddleware
from async_guard.testing import capture_hits
from tests.integrations.driving import execute, in_task
from tests.testapp import models

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("films")]


async def director_of(film):
    await asyncio.sleep(0)
    return film.director.name


class Swallow(FieldExtension):
    async def resolve_async(self, next_, source, info, **kwargs):
        try:
            return await next_(source, info, **kwargs)
        except Exception:
            return "extension"


@strawberry.type
class Sorry:
    message: str


@strawberry.type
class Name:
    name: str


@strawberry.type
class Film:
    title: str

    @strawberry.field
    async def raised(self) -> str | None:
        return self.director.name

    @strawberry.field
    async def strict(self) -> str:
        return self.director.name

    @strawberry.field
    def sync_raised(self) -> str | None:
        return self.director.name

    @strawberry.field
    async def raised_from(self) -> str | None:
        try:
            return self.director.name
        except Exception as error:
            raise ValueError("no director") from error

    @strawberry.field
    async def raised_instead(self) -> str | None:
        try:
            return self.director.name
        except Exception:
            raise ValueError("no director") from None

    @strawberry.field
    async def raised_again(self) -> str | None:
        try:
            return self.director.name
        except Exception:
            await asyncio.sleep(0)
            raise

    @strawberry.field
    async def returned(self) -> str | None:
        try:
            return self.director.name
        except Exception as error:
            return error  # type: ignore[return-value]

    @strawberry.field
    async def swallowed(self) -> str | None:
        try:
            return self.director.name
        except Exception:
            return "nobody"

    @strawberry.field
    def suppressed(self) -> str | None:
        with suppress(Exception):
            return self.director.name

    @strawberry.field
    async def defaulted(self) -> str | None:
        return next((name for name in [await one_or_none(director_of(self))]), None)

    @strawberry.field(extensions=[Swallow()])
    async def swallowed_by_extension(self) -> str | None:
        return self.director.name

    @strawberry.field
    async def gathered(self) -> str | None:
        names = await asyncio.gather(director_of(self), return_exceptions=True)
        return ", ".join(type(name).__name__ for name in names)

    @strawberry.field
    async def gathered_raised(self) -> str | None:
        return ", ".join(await asyncio.gather(director_of(self), asyncio.sleep(0.01, "")))

    @strawberry.field
    async def grouped(self) -> str | None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(director_of(self))
        except* Exception:
            pass
        return "grouped"

    @strawberry.field
    async def grouped_raised(self) -> str | None:
        async with asyncio.TaskGroup() as group:
            group.create_task(director_of(self))

    @strawberry.field
    async def grouped_handled(self) -> str | None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(director_of(self))
        except* SynchronousOnlyOperation:
            pass
        return "grouped"

    @strawberry.field
    async def timed(self) -> str | None:
        async with asyncio.timeout(5):
            return await asyncio.wait_for(director_of(self), 5)

    @strawberry.field
    async def shielded(self) -> str | None:
        return await asyncio.shield(director_of(self))

    @strawberry.field
    async def task_swallowed(self) -> str | None:
        task = asyncio.create_task(director_of(self))
        await asyncio.wait([task])
        return type(task.exception()).__name__

    @strawberry.field
    async def handled(self) -> str | None:
        try:
            return self.director.name
        except SynchronousOnlyOperation:
            director = await models.Director.objects.aget(pk=self.director_id)
            return director.name

    @strawberry.field
    async def loaded(self, info: strawberry.Info) -> str | None:
        return await info.context["names"].load(self.director_id)

    @strawberry.field
    async def loaded_or_nothing(self, info: strawberry.Info) -> str | None:
        try:
            return await info.context["names"].load(self.director_id)
        except Exception:
            return None

    @strawberry.field
    async def union(self) -> Annotated[Name | Sorry, strawberry.union("NameOrSorry")] | None:
        return Name(name=self.director.name)


async def one_or_none(awaitable):
    try:
        return await awaitable
    except Exception:
        return None


@strawberry.type
class Query:
    @strawberry.field
    async def film(self) -> Film | None:
        return await models.Film.objects.aget(title="M")

    @strawberry.field
    async def films(self) -> list[Film]:
        return [film async for film in models.Film.objects.order_by("pk")]


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def films(self) -> AsyncGenerator[Film | None, None]:
        async for film in models.Film.objects.order_by("pk"):
            yield film

    @strawberry.subscription
    async def names(self) -> AsyncGenerator[str, None]:
        async for film in models.Film.objects.order_by("pk"):
            try:
                yield film.director.name
            except Exception:
                yield "nobody"


class AnyError(strawberry.ExceptionHandler[Exception, Sorry]):
    def handle(self, exception, *, field, info):
        return Sorry(message="sorry")


class ThisError(strawberry.ExceptionHandler[SynchronousOnlyOperation, Sorry]):
    def handle(self, exception, *, field, info):
        return Sorry(message="later")


class NoError(strawberry.ExceptionHandler[Exception, Sorry]):
    def handle(self, exception, *, field, info):
        return None


class DropErrors(SchemaExtension):
    """Answers with data only."""

    def on_execute(self):
        yield
        self.execution_context.result.errors = None


def build(*extensions, **more):
    return strawberry.Schema(Query, subscription=Subscription, extensions=[*extensions], **more)


@pytest.fixture(scope="module")
def schema():
    return build(AsyncGuardExtension)


def ends(hits):
    """Return path and outcome of each hit, in the order of the paths."""
    return sorted((hit.graphql_path or hit.function, hit.outcome) for hit in hits)


OUTCOMES = {
    "raised": "raised",
    "syncRaised": "raised",
    "raisedFrom": "raised",
    "raisedInstead": "raised",
    "raisedAgain": "raised",
    "returned": "raised",
    "swallowed": "swallowed",
    "suppressed": "swallowed",
    "defaulted": "swallowed",
    "swallowedByExtension": "swallowed",
    "gathered": "swallowed",
    "gatheredRaised": "raised",
    "grouped": "swallowed",
    "groupedRaised": "raised",
    "groupedHandled": "swallowed",  # a group has no traceback that ends where it was caught
    "timed": "raised",
    "shielded": "raised",
    "taskSwallowed": "swallowed",
    "handled": "handled",
}


@pytest.mark.parametrize("field", OUTCOMES)
async def test_outcome(schema, field):
    """
    A hit ended as the resolver made it end.
    """
    with capture_hits() as hits:
        await execute(schema, f"{{ film {{ {field} }} }}")

    assert [hit.outcome for hit in hits] == [OUTCOMES[field]]


NEED_THE_ANSWER = {"raisedFrom", "raisedInstead", "groupedRaised"}


@pytest.mark.parametrize("field", [name for name in OUTCOMES if name not in NEED_THE_ANSWER])
async def test_outcome_without_extension(field):
    """
    Below the middleware most outcomes are told from the exception: no extension is needed.
    """
    plain = build()

    async def view(request):
        await plain.execute(f"{{ film {{ {field} }} }}")
        return HttpResponse()

    with capture_hits() as hits:
        await in_task(AsyncGuardMiddleware(view)(RequestFactory().get("/")))

    assert [hit.outcome for hit in hits] == [OUTCOMES[field]]


async def test_all_outcomes_at_once(schema):
    """
    One operation may have all of them, for every item of a list.
    """
    with capture_hits() as hits:
        result = await execute(schema, f"{{ films {{ {' '.join(OUTCOMES)} }} }}")

    raised = [name for name, outcome in OUTCOMES.items() if outcome == "raised"]
    assert sorted(hit.outcome for hit in hits) == sorted([*OUTCOMES.values()] * 3)
    assert sorted(error.path[-1] for error in result.errors) == sorted(raised * 3)


@pytest.mark.parametrize("order", ["first", "last"])
async def test_mask_errors(order):
    """
    MaskErrors keeps the refusal from client and team, wherever it is listed: it is swallowed.
    """
    both = [AsyncGuardExtension, MaskErrors]
    schema = build(*(both if order == "first" else reversed(both)))

    with capture_hits() as hits:
        result = await execute(schema, "{ film { raised handled swallowed } }")

    assert [error.message for error in result.errors] == ["Unexpected error."]
    assert ends(hits) == [
        ("film.handled", "handled"),
        ("film.raised", "swallowed"),
        ("film.swallowed", "swallowed"),
    ]


@pytest.mark.parametrize("order", ["first", "last"])
async def test_mask_errors_lets_it_through(order):
    """
    A refusal that MaskErrors does not mask is raised.
    """
    mask = MaskErrors(should_mask_error=lambda error: False)
    both = [AsyncGuardExtension, lambda: mask]
    schema = build(*(both if order == "first" else reversed(both)))

    with capture_hits() as hits:
        await execute(schema, "{ film { raised } }")

    assert ends(hits) == [("film.raised", "raised")]


@pytest.mark.parametrize("order", ["first", "last"])
async def test_dropped_errors(order):
    """
    An extension that answers without errors swallows them.
    """
    both = [AsyncGuardExtension, DropErrors]
    schema = build(*(both if order == "first" else reversed(both)))

    with capture_hits() as hits:
        await execute(schema, "{ film { raised } }")

    assert ends(hits) == [("film.raised", "swallowed")]


@pytest.mark.parametrize(
    ("handler", "outcome"), [(AnyError, "swallowed"), (ThisError, "swallowed"), (NoError, "raised")]
)
async def test_exception_handlers(handler, outcome):
    """
    An exception handler of Strawberry that does not decline swallows.
    """
    schema = build(AsyncGuardExtension, exception_handlers=[handler()])

    with capture_hits() as hits:
        await execute(schema, "{ film { union { ... on Sorry { message } } } }")

    assert ends(hits) == [("film.union", outcome)]


async def test_null_propagation(schema):
    """
    One error of two strict siblings is in the answer; the other one was raised as well.
    """
    with capture_hits() as hits:
        result = await execute(schema, "{ film { a: strict b: strict } }")

    assert (result.data, len(result.errors)) == ({"film": None}, 1)
    assert ends(hits) == [("film.a", "raised"), ("film.b", "raised")]


@pytest.mark.parametrize("order", ["first", "last"])
async def test_masked_siblings(order):
    """
    Of strict siblings that MaskErrors masks, also the one that is not in the answer is swallowed.
    """
    both = [AsyncGuardExtension, MaskErrors]
    schema = build(*(both if order == "first" else reversed(both)))

    with capture_hits() as hits:
        await execute(schema, "{ film { a: strict b: strict } }")

    assert ends(hits) == [("film.a", "swallowed"), ("film.b", "swallowed")]


async def test_null_above_a_swallowed_hit(schema):
    """
    A hit that was swallowed stays so when an error elsewhere nulls its parent.
    """
    with capture_hits() as hits:
        await execute(schema, "{ film { swallowed handled strict } }")

    assert ends(hits) == [
        ("film.handled", "handled"),
        ("film.strict", "raised"),
        ("film.swallowed", "swallowed"),
    ]


def context():
    async def load(keys):
        return [each.name for each in models.Director.objects.filter(pk__in=keys)]

    return {"names": DataLoader(load)}


@pytest.mark.parametrize(
    ("field", "outcome"), [("loaded", "raised"), ("loadedOrNothing", "swallowed")]
)
async def test_data_loader(schema, field, outcome):
    """
    A DataLoader hands its hit to every field that waits for the batch.
    """
    with capture_hits() as hits:
        await execute(schema, f"{{ films {{ {field} }} }}", context_value=context())

    assert [hit.outcome for hit in hits] == [outcome]


async def test_data_loader_with_two_ends(schema):
    """
    A batch that one field raises and another one swallows was raised.
    """
    with capture_hits() as hits:
        await execute(schema, "{ film { loadedOrNothing loaded } }", context_value=context())

    assert [hit.outcome for hit in hits] == ["raised"]


STREAMS = [
    pytest.param("subscription { films { raised } }", ["raised"] * 3, id="field"),
    pytest.param("subscription { films { strict } }", ["raised"] * 3, id="strict_field"),
    pytest.param("subscription { films { swallowed } }", ["swallowed"] * 3, id="swallowed"),
    pytest.param("subscription { films { handled } }", ["handled"] * 3, id="handled"),
    pytest.param("subscription { names }", ["swallowed"] * 3, id="swallowed_step"),
    pytest.param("{ film { raised } }", ["raised"], id="query"),
    pytest.param("{ film { swallowed } }", ["swallowed"], id="swallowed_in_query"),
]


@pytest.mark.parametrize(("query", "expected"), STREAMS)
async def test_stream(schema, query, expected):
    """
    Every result of a stream answers for its own hits.
    """
    with capture_hits() as hits:
        await in_task(read(schema, query))

    assert [hit.outcome for hit in hits] == expected


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize(
    ("query", "times"),
    [("subscription { films { raised } }", 3), ("{ film { raised } }", 1)],
    ids=["subscription", "query"],
)
async def test_masked_stream(order, query, times):
    """
    Masked errors of a stream are swallowed.
    """
    both = [AsyncGuardExtension, MaskErrors]
    schema = build(*(both if order == "first" else reversed(both)))

    with capture_hits() as hits:
        messages = await in_task(read(schema, query))

    assert messages == ["Unexpected error."] * times
    assert [hit.outcome for hit in hits] == ["swallowed"] * times


async def read(schema, query):
    results = [each async for each in await schema.stream(query)]
    return [error.message for each in results for error in each.errors or ()]


async def streamed(schema, query):
    return [each async for each in await schema.stream(query)]


async def executed(schema, query):
    """As HTTP does it: the operation is over when its first part is there."""
    result = await schema.execute(query)
    return [result.initial_result, *[each async for each in result.subsequent_results]]


@pytest.mark.parametrize("read_parts", [streamed, executed])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "{ film { swallowed ... @defer { raised handled } } }",
            [("handled", "handled"), ("raised", "raised"), ("swallowed", "swallowed")],
        ),
        (
            "{ film { raised ... @defer { swallowed ... @defer { raisedAgain } } } }",
            [("raised", "raised"), ("raisedAgain", "raised"), ("swallowed", "swallowed")],
        ),
        (
            "{ films @stream(initialCount: 1) { raised } }",
            [("raised", "raised")] * 3,
        ),
    ],
)
async def test_incremental_delivery(read_parts, query, expected):
    """
    A hit in a later part of the answer is told as one in its first part.
    """
    config = StrawberryConfig(enable_experimental_incremental_execution=True)
    schema = build(AsyncGuardExtension, config=config)

    with capture_hits() as hits:
        await in_task(read_parts(schema, query))

    assert sorted((hit.graphql_path.split(".")[-1], hit.outcome) for hit in hits) == expected
    assert {hit.operation_type for hit in hits} == {"query"}


async def test_fire_and_forget(schema):
    """
    A task that outlives its operation is told, as swallowed: no answer shows it.
    """

    async def work():
        film = await models.Film.objects.aget(title="M")

        @strawberry.type
        class Query:
            @strawberry.field
            async def start(self) -> str:
                tasks.append(asyncio.create_task(director_of(film)))
                return "started"

        tasks = []
        await strawberry.Schema(Query, extensions=[AsyncGuardExtension]).execute("{ start }")
        await asyncio.wait(tasks)

    with capture_hits() as hits:
        await in_task(work())

    assert [hit.outcome for hit in hits] == ["swallowed"]
