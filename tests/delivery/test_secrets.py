"""Nothing secret: a hit names code, never a value that was in it."""

import asyncio
import contextvars
import json
import logging
import uuid

import pytest
import strawberry
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from strawberry.django.views import AsyncGraphQLView

import async_guard
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.problem import Problems
from tests.delivery.process import Project, hits_of, read_events
from tests.delivery.test_log import PROCESSOR_FORMATTER, STRUCTLOG_JSON

SECRET = f"secret{uuid.uuid4().hex}"
BOUND = contextvars.ContextVar("bound", default="")


class Trouble(Exception):
    """An exception of the project's, with a secret in its message."""


# --- everything that could leak, planted next to a hit -------------------------------------------


def argument(password):
    return User.objects.get(password=password)


def keyword_argument(*, token):
    list(Group.objects.filter(name__in=[token, token]))


def local():
    card_number = SECRET
    values = {"card": card_number, card_number: [card_number]}
    list(Group.objects.all())
    return values


def excluded():
    bool(Group.objects.exclude(name=SECRET).exists())


def raw_query():
    list(Group.objects.raw("SELECT id, name FROM auth_group WHERE name = %s", [SECRET]))


def raw_text():
    list(Group.objects.raw(f"SELECT id, name FROM auth_group WHERE name = '{SECRET}'"))


def cursor():
    with connection.cursor() as found:
        found.execute(f"SELECT %s, '{SECRET}'", [SECRET])


def created():
    Group.objects.create(name=SECRET)


def saved():
    user = User(username=SECRET, email=SECRET, first_name=SECRET)
    user.set_password(SECRET)
    user.save()


def updated():
    Group.objects.filter(pk=1).update(name=SECRET)


def related():
    user = User(pk=1, username=SECRET)
    list(user.groups.filter(name=SECRET))


def in_transaction():
    with transaction.atomic(savepoint=SECRET):
        raise AssertionError("not reached")


def chained():
    try:
        raise Trouble(SECRET)
    except Trouble as error:
        error.add_note(SECRET)
        list(Group.objects.all())


def raised_from():
    try:
        list(Group.objects.all())
    except SynchronousOnlyOperation as error:
        raise Trouble(SECRET) from error


def named(secret):
    def inner():
        list(Group.objects.filter(name=secret))

    inner.__name__ = secret
    inner.__doc__ = secret
    inner()


PLANTS = {
    "argument": lambda: argument(SECRET),
    "keyword argument": lambda: keyword_argument(token=SECRET),
    "local": local,
    "excluded": excluded,
    "raw query": raw_query,
    "raw text": raw_text,
    "cursor": cursor,
    "created": created,
    "saved": saved,
    "updated": updated,
    "related": related,
    "transaction": in_transaction,
    "chained exception": chained,
    "exception raised from it": raised_from,
    "function": lambda: named(SECRET),
}


async def planted(name, request=None):
    BOUND.set(SECRET)
    try:
        PLANTS[name]()
    except Exception:
        return "swallowed"


async def view(request, token, name):
    request.session["card"] = SECRET  # kept in memory until the response is made
    return HttpResponse(str(await planted(name, request)))


@strawberry.type
class Query:
    @strawberry.field
    async def planted(self, token: str, name: str) -> str:
        return str(await planted(name))

    @strawberry.field
    async def failing(self, token: str) -> str:
        try:
            return str(list(Group.objects.filter(name=token)))
        except SynchronousOnlyOperation:
            raise Trouble(token) from None


schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension])
urlpatterns = [
    path("graphql/", AsyncGraphQLView.as_view(schema=schema)),
    path("<token>/<name>/", view),
]


def allowed_in_env(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


class Everything(logging.Handler):
    """Keeps all that a handler of the project's could write of a record."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def emit(self, record):
        self.kept.append(f"{self.format(record)} {vars(record)}")


@pytest.fixture
def watched(tmp_path):
    """Watch with the log file, and check at the end that neither it nor the log has the secret."""
    log = tmp_path / "hits.jsonl"
    guard = {"LOG_FILE": log, "EXPOSE_IN_RESPONSE": "force", "BURST": 3, "LOG_HANDLED": True}
    sessions = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}
    handler, logger = Everything(), logging.getLogger("async_guard")
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    with override_settings(ROOT_URLCONF=__name__, ASYNC_GUARD=guard, **sessions):
        async_guard.install()
        yield log
        async_guard.uninstall()
    logger.setLevel("NOTSET")
    logger.removeHandler(handler)
    assert SECRET not in log.read_text()
    assert SECRET not in "".join(handler.kept)
    assert len(handler.kept) >= len(hits_of(read_events(log))) > 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", PLANTS)
def test_values_of_the_code(watched, name):
    """
    Arguments, locals, parameters, field values and messages are in no event, full or counted.
    """

    async def main():
        for _ in range(5):
            assert await planted(name) == "swallowed"

    asyncio.run(main())


@pytest.mark.parametrize("name", ["argument", "cursor", "saved", "raw text"])
@pytest.mark.django_db(transaction=True)
def test_values_of_the_code_when_allowed(watched, monkeypatch, name):
    """
    The same where the calls are let through and timed.
    """
    allowed_in_env(monkeypatch)
    asyncio.run(planted(name))


def test_values_of_a_request(watched):
    """
    Header, cookie, session, path, query string and body are in no event.
    """

    async def main():
        client = AsyncClient(headers={"Authorization": f"Bearer {SECRET}", "X-Token": SECRET})
        client.cookies["token"] = SECRET
        return await client.post(f"/{SECRET}/local/?token={SECRET}", {"password": SECRET})

    assert asyncio.run(main()).content == b"swallowed"

    async_guard.flush()
    [event] = read_events(watched)
    assert event["http.route"] == "<token>/<name>/"


@pytest.mark.parametrize("inline", [True, False])
def test_values_of_a_graphql_operation(watched, inline):
    """
    Variables and literals are neither in the log nor in what the response tells of hits.
    """
    if inline:
        head, token = "query Named", f'"{SECRET}"'
    else:
        head, token = "query Named($t: String!)", "$t"
    query = f'{head} {{ planted(token: {token}, name: "local") failing(token: {token}) }}'

    async def main():
        body = {"query": query, "variables": {"t": SECRET} if not inline else {}}
        return await AsyncClient().post("/graphql/", body, content_type="application/json")

    answer = asyncio.run(main()).json()
    async_guard.flush()

    hits = answer["extensions"]["asyncGuard"]["hits"]
    assert SECRET not in json.dumps(hits)
    assert {hit["graphql.operation.name"] for hit in hits} == {"Named"}
    assert len(hits_of(read_events(watched))) == 2


@pytest.mark.django_db(transaction=True)
def test_values_of_loads_in_a_thread(watched):
    """
    Values of rows that were loaded one by one are in no event.
    """
    users = [User(username=f"{number}{SECRET}", email=SECRET) for number in range(6)]
    User.objects.bulk_create(users)

    def work():
        return [list(user.groups.filter(name=SECRET)) for user in User.objects.all()]

    asyncio.run(sync_to_async(work)())


def test_sink_that_fails(tmp_path, caplog):
    """
    The message of a sink's exception, which may hold anything, is not logged.
    """
    log = tmp_path / "hits.jsonl"
    sinks = ["tests.delivery.test_secrets.failing_sink"]
    with override_settings(ASYNC_GUARD={"LOG_FILE": log, "SINKS": sinks}), async_guard.guarded():
        asyncio.run(planted("chained exception"))

    assert "sink_failed" in log.read_text()
    assert SECRET not in log.read_text() + caplog.text


def failing_sink(hit):
    raise Trouble(SECRET)


def test_error_of_ours(monkeypatch, caplog):
    """
    If a hit cannot be described, what the log says of it holds no message of the project's.
    """
    from async_guard.guard import guard

    def broken(*args):
        raise KeyError

    monkeypatch.setattr(guard, "_failed", False)
    monkeypatch.setattr(Problems, "of", broken)
    with async_guard.guarded():
        asyncio.run(planted("chained exception"))

    assert "could not describe" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("before", [STRUCTLOG_JSON, PROCESSOR_FORMATTER], ids=["json", "formatter"])
def test_processors_that_print_exceptions(project: Project, before: str):
    """
    Even processors that print exceptions with their locals find none in our events.
    """
    processors = "[*shared, structlog.processors.dict_tracebacks, "
    before = before.replace("[*shared, ", processors, 1)
    body = f"""
async def main(password):
    try:
        raise RuntimeError(password)
    except RuntimeError:
        await swallow(7)

asyncio.run(main("sec" + "{SECRET[3:]}"))
"""

    run = project.run(body, before=before)

    assert run.out.count("async_guard.hit") >= 5
    assert SECRET not in run.out + run.err + project.log.read_text()
