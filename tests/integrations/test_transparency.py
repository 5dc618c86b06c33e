"""Strawberry with the extension is Strawberry: same answers, same queries, same schema."""

import asyncio
import base64
import gc
import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from strawberry.extensions import (
    AddValidationRules,
    DisableIntrospection,
    MaskErrors,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
    ValidationCache,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult

import async_guard
from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.integrations.catalogue import build

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True)
class Op:
    """One operation, as a client sends it."""

    id: str
    query: str | None
    variables: dict[str, Any] | None = None
    name: str | None = None


def gid(kind, key):
    return base64.b64encode(f"{kind}:{key}".encode()).decode()


OPERATIONS = [
    Op("query", "{ hello }"),
    Op("async_query", "{ helloLater }"),
    Op("argument", '{ hello(name: "Ada") }'),
    Op("aliases", '{ a: hello(name: "a") b: hello(name: "b") c: helloLater }'),
    Op("variables", "query V($n: String!) { hello(name: $n) }", {"n": "var"}, "V"),
    Op("variable_default", 'query V($n: String = "default") { hello(name: $n) }'),
    Op("list_variable", "query L($n: [Int!]!) { total(numbers: $n) }", {"n": [1, 2, 3]}),
    Op("list_of_one", "query L($n: [Int!]!) { total(numbers: $n) }", {"n": 7}),
    Op("input_object", "{ inside(span: {low: 7}) }"),
    Op("one_of", '{ chosen(choice: {word: "x"}) }'),
    Op("one_of_both", '{ chosen(choice: {word: "x", number: 1}) }'),
    Op("enum", "query E($m: Mood!) { mood(mood: $m) }", {"m": "WHITE"}),
    Op("wrong_enum", "query E($m: Mood!) { mood(mood: $m) }", {"m": "GREY"}),
    Op("scalar", "{ warm(value: 20) }"),
    Op("wrong_scalar", '{ warm(value: "hot") }'),
    Op("missing_variable", "query V($n: String!) { hello(name: $n) }", {}),
    Op("null_variable", "query V($n: String!) { hello(name: $n) }", {"n": None}),
    Op("wrong_variable", "query L($n: [Int!]!) { total(numbers: $n) }", {"n": ["x"]}),
    Op("wrong_literal", '{ total(numbers: ["one"]) }'),
    Op("missing_input_field", "{ inside(span: {high: 7}) }"),
    Op("skip", "query S($s: Boolean!) { hello @skip(if: $s) shout }", {"s": True}),
    Op("include", "query S($s: Boolean!) { hello @include(if: $s) shout }", {"s": False}),
    Op("fragment", "query F { named { ...N } } fragment N on Named { name __typename }"),
    Op("inline_fragment", "{ named { name ... on Person { age } ... on House { rooms } } }"),
    Op("union", "{ things { __typename ... on Person { name age } ... on House { rooms } } }"),
    Op("unused_fragment", "{ hello } fragment N on Named { name }"),
    Op("null_propagation", "{ hello weak { number half } }"),
    Op("null_in_list", "{ weakOrNone { number half } }"),
    Op("nullable_error", "{ weak { number halfOrNone } }"),
    Op("error", "{ hello broken }"),
    Op("error_extensions", "{ refused }"),
    Op("two_errors", "{ a: broken b: refused }"),
    Op("serialisation_error", "{ notAString }"),
    Op("permission", "{ forbidden }"),
    Op("strict_permission", "{ strictlyForbidden }"),
    Op("async_permission", "{ forbiddenLater }"),
    Op("field_extensions", "{ shout shoutLater }"),
    Op("relay_node", "query N($id: ID!) { node(id: $id) { id } }", {"id": gid("Fruit", 3)}),
    Op(
        "relay_nodes",
        "query N($ids: [ID!]!) { nodes(ids: $ids) { ... on Fruit { name } } }",
        {"ids": [gid("Fruit", 1), gid("Fruit", 4)]},
    ),
    Op("wrong_node", '{ node(id: "nonsense") { id } }'),
    Op(
        "relay_connection",
        "{ fruits(first: 2) { edges { cursor node { name } } pageInfo { hasNextPage } } }",
    ),
    Op("relay_misuse", "{ fruits(first: -1) { edges { cursor } } }"),
    Op("mutation", 'mutation M { touch(span: {low: 1}, note: "n") }', None, "M"),
    Op("mutation_null", "mutation { touch(span: {low: 1}, note: null) }"),
    Op("mutations", "mutation { a: touch(span: {low: 1}) fail b: touch(span: {low: 2}) }"),
    Op("mutation_writes", 'mutation { retitle(old: "M", new: "M") { title } }'),
    Op("django_list", "{ films { title } }"),
    Op("django_resolver", "{ filmsByResolver { title loudTitle } }"),
    Op("django_one", "{ film(pk: 1) { title } }"),
    Op("django_missing", "{ film(pk: 4711) { title } }"),
    Op("django_filter", '{ films(filters: {title: "M"}) { title } }'),
    Op("django_order", "{ films(ordering: [{title: DESC}]) { title } }"),
    Op("django_pages", "{ films(pagination: {offset: 1, limit: 1}) { title } }"),
    Op("django_joined", "{ films { title director { name studio { name } } } }"),
    Op("django_prefetched", "{ films { genres { name } } directors { films { title } } }"),
    Op("django_lazy", "{ films { lazyDirectorName } }"),
    Op(
        "django_connection",
        "{ filmNodes(first: 2) { edges { node { id title } } pageInfo { hasNextPage } } }",
    ),
    Op("hit", '{ plainFilm(title: "M") { title director { name } } }'),
    Op("hits_in_lists", "{ plainFilms { title directorName } shelves { directorName } }"),
    Op("hits_below_null", "{ maybeFilms { strandName directorName } hello }"),
    Op("hit_swallowed", "{ plainFilms { directorOrNothing } }"),
    Op("hit_handled", "{ plainFilms { directorByName } }"),
    Op("introspection", "{ __schema { types { name fields { name } } } }"),
    Op("type", '{ __type(name: "Film") { name fields { name type { kind } } } __typename }'),
    Op("parse_error", "{ hello"),
    Op("empty", ""),
    Op("nothing", None),
    Op("unknown_field", "{ helo }"),
    Op("unknown_name", "query A { hello }", None, "B"),
    Op("second_name", 'query A { hello } query B { hello(name: "B") }', None, "B"),
    Op("two_without_name", "query A { hello } query B { hello }"),
    Op("same_names", "query A { hello } query A { shout }"),
    Op("deep", "{ films { director { films { director { films { title } } } } } }"),
    Op("subscription_as_query", "subscription { count }"),
]
ASYNC = re.compile("Later|plain|maybeFilms|shelves|mutation|subscription")
SYNC = [op for op in OPERATIONS if not ASYNC.search(op.query or "")]
SUBSCRIPTIONS = [
    Op("count", "subscription C($to: Int!) { count(to: $to) }", {"to": 4}, "C"),
    Op("error", "subscription { countBadly }"),
    Op("hits", "subscription { newFilms { title directorName } }"),
    Op("hit_in_step", "subscription { newDirectorNames }"),
    Op("parse_error", "subscription { count"),
    Op("unknown_field", "subscription { cont }"),
    Op("two_fields", "subscription { count newDirectorNames }"),
    Op("query_as_subscription", "{ hello }"),
]


class Custom(StrawberryGraphQLCoreExecutionContext):
    """An execution context of the project's own."""


class Added(SchemaExtension):
    """Every hook of an extension, and results of its own."""

    async def on_operation(self):
        self.seen = ["operation"]
        yield
        self.seen.append("over")

    def on_parse(self):
        yield
        self.seen.append("parsed")

    async def on_validate(self):
        yield
        self.seen.append("validated")

    async def on_execute(self):
        yield
        self.seen.append("executed")

    async def resolve(self, _next, root, info, *args, **kwargs):
        found = _next(root, info, *args, **kwargs)
        return await found if hasattr(found, "__await__") else found

    async def get_results(self):
        return {"seen": list(self.seen)}


class Answered(SchemaExtension):
    """Answers itself, as a cache does."""

    def on_execute(self):
        self.execution_context.result = ExecutionResult(data={"hello": "cached"}, errors=None)
        yield


class Broken(SchemaExtension):
    def on_execute(self):
        raise ValueError("no execution today")


SET_UPS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "plain": ([], {}),
    "mask_errors": ([MaskErrors], {}),
    "caches": ([lambda: ParserCache(maxsize=100), lambda: ValidationCache(maxsize=100)], {}),
    "limits": (
        [
            lambda: QueryDepthLimiter(max_depth=4),
            lambda: MaxAliasesLimiter(max_alias_count=1),
            lambda: MaxTokensLimiter(max_token_count=60),
        ],
        {},
    ),
    "no_introspection": ([DisableIntrospection, lambda: AddValidationRules([])], {}),
    "custom_execution": ([], {"execution_context_class": Custom}),
    "own_hooks": ([Added], {}),
    "own_answer": ([Answered], {}),
    "broken": ([Broken], {}),
}


def answer(result):
    """Return all of a result that a client may see, and what it was made from."""
    if isinstance(result, BaseException):
        return type(result), str(result)
    by_path = sorted(result.errors or (), key=lambda error: str(error.path))  # tasks race
    causes = [repr(each.original_error) for each in by_path]
    return result.data, [each.formatted for each in by_path], causes, result.extensions


async def execute(schema, op):
    try:
        result = await schema.execute(op.query, op.variables, {}, operation_name=op.name)
    except Exception as error:
        return answer(error)
    return answer(result)


async def execute_in_thread(schema, op):
    def work():
        try:
            result = schema.execute_sync(op.query, op.variables, {}, operation_name=op.name)
        except Exception as error:
            return answer(error)
        return answer(result)

    return await sync_to_async(work)()


async def stream(schema, op):
    results = await schema.stream(op.query, op.variables, {}, operation_name=op.name)
    return await all_of(results)


async def subscribe(schema, op):
    results = await schema.subscribe(op.query, op.variables, {}, operation_name=op.name)
    return await all_of(results)


async def all_of(results):
    found = []
    try:
        async for result in results:
            found.append(answer(result))
    except Exception as error:
        found.append(answer(error))
    return found


async def assert_same(plain, guarded, ops, run, queries, *, installed=True):
    """Compare answers and SQL with the extension with those without it."""
    expected = {op.id: await with_queries(run, plain, op, queries) for op in ops}

    with async_guard.guarded() if installed else nullcontext():
        found = {op.id: await with_queries(run, guarded, op, queries) for op in ops}

    for op in ops:
        assert (op.id, found[op.id]) == (op.id, expected[op.id])


async def with_queries(run, schema, op, queries):
    queries.clear()
    return await run(schema, op), sorted(queries)


def both_ways(*extensions, **more):
    """Return a schema with the extension listed first, and one where it comes last."""
    yield build(AsyncGuardExtension, *extensions, **more)
    if extensions:
        yield build(*extensions, AsyncGuardExtension, **more)


@pytest.mark.parametrize("set_up", SET_UPS)
async def test_async_operations(set_up, queries):
    """
    An async operation has the same data, errors, extensions and queries with the extension.
    """
    extensions, more = SET_UPS[set_up]

    for guarded in both_ways(*extensions, **more):
        await assert_same(build(*extensions, **more), guarded, OPERATIONS, execute, queries)


async def test_idle_extension(queries):
    """
    So has one where the guard is not installed.
    """
    guarded = build(AsyncGuardExtension)

    await assert_same(build(), guarded, OPERATIONS, execute, queries, installed=False)


@pytest.mark.parametrize("set_up", SET_UPS)
async def test_sync_operations(set_up, queries):
    """
    So has one that is executed without a loop.
    """
    extensions, more = SET_UPS[set_up]
    guarded = build(AsyncGuardExtension, *extensions, **more)

    await assert_same(build(*extensions, **more), guarded, SYNC, execute_in_thread, queries)


@pytest.fixture
def collected_at_the_end():
    """
    Coroutines that nobody awaits are collected here, and nowhere else.

    Python imports what warns of them, which fails where it happens to collect inside a
    namedtuple's ``__new__``: that has no ``__import__``. What pytest keeps of such a failure
    would hold them until another test.
    """
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")
async def test_async_resolver_of_a_sync_operation(collected_at_the_end, queries):
    """
    So has one that Strawberry cannot execute, because it needs a loop.
    """
    guarded = build(AsyncGuardExtension)
    ops = [op for op in OPERATIONS if op.id == "async_query"]

    await assert_same(build(), guarded, ops, execute_in_thread, queries)


@pytest.mark.parametrize("set_up", SET_UPS)
async def test_streams(set_up, queries):
    """
    So have subscriptions.
    """
    extensions, more = SET_UPS[set_up]

    for guarded in both_ways(*extensions, **more):
        await assert_same(build(*extensions, **more), guarded, SUBSCRIPTIONS, subscribe, queries)


async def test_queries_over_a_streaming_transport(queries):
    """
    So have queries and mutations over a streaming transport.
    """
    await assert_same(build(), build(AsyncGuardExtension), OPERATIONS, stream, queries)


async def test_operations_find_something(films):
    """
    The operations that are compared are good for something: most succeed, some fail, some hit.
    """
    schema = build()

    answers = [await execute(schema, op) for op in OPERATIONS]

    results = [each for each in answers if len(each) == 4]
    assert len({op.id for op in OPERATIONS}) == len(OPERATIONS) > 70
    assert sum(not errors for _, errors, _, _ in results) > 35
    assert sum(bool(errors) for _, errors, _, _ in results) > 25
    assert sum("SynchronousOnlyOperation" in str(causes) for _, _, causes, _ in results) == 3


async def test_cancelled(films):
    """
    A cancelled operation ends with its cancellation and leaves nothing behind.
    """
    schema = build(AsyncGuardExtension)

    with async_guard.guarded():
        task = asyncio.create_task(schema.execute("{ helloLater(seconds: 60) }"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()


def every_field(schema):
    """Return the objects that make the schema work, by name."""
    found = {}
    for name, kind in schema._schema.type_map.items():
        for field_name, field in getattr(kind, "fields", {}).items():
            definition = field.extensions.get("strawberry-definition")
            resolve = getattr(field, "resolve", None)
            found[name, field_name] = (
                field,
                resolve,
                getattr(field, "subscribe", None),
                getattr(resolve, "_is_default", None),
                getattr(definition, "is_async", None),
                getattr(definition, "base_resolver", None),
                getattr(definition, "default_resolver", None),
            )
        found[name, None] = (kind, *(vars(kind).get(each) for each in TYPE_HOOKS))
    return found


TYPE_HOOKS = ("resolve_type", "is_type_of", "serialize", "parse_value", "parse_literal")


async def test_schema_is_untouched(films):
    """
    Neither installing nor executing replaces a resolver or any other part of the schema.
    """
    schema = build(AsyncGuardExtension)
    before = every_field(schema)

    with async_guard.guarded():
        for op in OPERATIONS:
            await execute(schema, op)
        during = every_field(schema)

    assert {key: [id(each) for each in parts] for key, parts in during.items()} == {
        key: [id(each) for each in parts] for key, parts in before.items()
    }
    assert len(before) > 150


async def test_same_schema(films):
    """
    The SDL is the same byte for byte, and so is what introspection says.
    """
    plain, guarded = build(), build(AsyncGuardExtension)

    with async_guard.guarded():
        await execute(guarded, OPERATIONS[0])

        assert guarded.as_str() == plain.as_str()
        assert guarded.introspect() == plain.introspect()
        assert str(guarded) == str(plain)


async def test_no_field_pays():
    """
    The extension has no ``resolve``, so Strawberry does not ask it for every field.
    """
    plain, guarded = build(), build(AsyncGuardExtension)

    assert not AsyncGuardExtension._implements_resolve()
    assert asked_for_every_field(guarded) == asked_for_every_field(plain)


def asked_for_every_field(schema):
    middlewares = schema._get_middleware_manager(schema.get_extensions()).middlewares
    return [type(each) for each in middlewares]
