"""System checks: each fires where something is wrong, and is silent where nothing is."""

import functools
import importlib.metadata
import io
import re
import sys
import types
from pathlib import Path

import asgiref.sync
import pytest
import strawberry
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db.models.query import ModelIterable
from django.test import override_settings
from django.urls import include, path
from strawberry.django.views import AsyncGraphQLView, GraphQLView
from strawberry.extensions import QueryDepthLimiter

from async_guard import checks
from async_guard.checks import MIDDLEWARE
from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.delivery.process import ROOT, Project

pytestmark = pytest.mark.urls("tests.delivery.urls")
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
NOT_CALLABLE = "a text"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)


def found(guard=None, **settings):
    with override_settings(ASYNC_GUARD=guard or {}, **settings):
        messages = run_checks(tags=["async_guard"])
    return [(message.id.removeprefix("async_guard."), message.msg) for message in messages]


def ids(guard=None, **settings):
    return [each for each, _ in found(guard, **settings)]


def test_silent_where_all_is_well(tmp_path):
    """
    A sound set-up has nothing to be told.
    """
    sinks = ["tests.delivery.sinks.good"]
    assert found() == []
    assert found({"LOG_FILE": tmp_path / "log" / "hits.jsonl", "SINKS": sinks}) == []
    assert found({"EXPOSE_IN_RESPONSE": "force"}) == []


def test_silent_where_disabled():
    """
    Who switches it off is not told how to set it up.
    """
    assert ids({"ENABLED": False, "SINKS": ["no.such"]}, MIDDLEWARE=[]) == []


def test_settings():
    """
    E001: every problem with the settings is an error of its own, with its sentence.
    """
    assert found({"BRUST": 1, "QUEUE_SIZE": 0}) == [
        ("E001", "ASYNC_GUARD has no key 'BRUST'. Did you mean 'BURST'?"),
        ("E001", "ASYNC_GUARD['QUEUE_SIZE'] must be a whole number, at least 1, not 0."),
    ]


@pytest.mark.parametrize("raw", [None, [], "yes"])
def test_settings_that_are_no_dict(raw):
    """
    E001: anything but a dict.
    """
    with override_settings(ASYNC_GUARD=raw):
        assert [each.id for each in run_checks(tags=["async_guard"])] == ["async_guard.E001"]


@pytest.mark.parametrize(
    "owner, name",
    [
        (ContentType, "get_object_for_this_type"),
        (ModelIterable, "__iter__"),
        (asgiref.sync.AsyncToSync, "__call__"),
    ],
)
def test_missing_seam(monkeypatch, owner, name):
    """
    E002: something that the probe replaces is gone.
    """
    with monkeypatch.context() as patch:
        patch.delattr(owner, name)
        messages = found()

    [(found_id, sentence)] = messages or [("none", "")]
    assert found_id == "E002"
    assert sentence.startswith(f"{owner.__qualname__}.{name} is gone, so async_guard watches")


@pytest.mark.parametrize(
    "path",
    [
        "nowhere.sink",
        "tests.delivery.sinks.nothing",
        "sink",
        "tests.delivery.test_checks.NOT_CALLABLE",
    ],
)
def test_sink(path):
    """
    E003: a sink that cannot be imported or called.
    """
    [(found_id, sentence)] = found({"SINKS": [path, "tests.delivery.sinks.good"]})

    assert found_id == "E003"
    assert path in sentence


def test_sink_whose_module_fails(tmp_path, monkeypatch):
    """
    E003: a sink's module that raises at import is a finding, not a crash of the checks.
    """
    (tmp_path / "failing_sinks.py").write_text("raise ValueError('no configuration')\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert ids({"SINKS": ["failing_sinks.sink"]}) == ["E003"]


@pytest.mark.parametrize("kind", ["below a file", "a folder"])
def test_log_file(tmp_path, kind):
    """
    E004: a log file that cannot be written.
    """
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "hits.jsonl" if kind == "below a file" else tmp_path

    assert found({"LOG_FILE": path}) == [
        ("E004", f"ASYNC_GUARD['LOG_FILE']: {path} cannot be written.")
    ]


def test_log_file_that_cannot_be():
    """
    E004: a name that no file may have.
    """
    assert ids({"LOG_FILE": "a\0b"}) == ["E004"]


def test_log_file_that_is_a_device():
    """
    E004 is silent for a file that is no regular one, such as /dev/null.
    """
    assert found({"LOG_FILE": "/dev/null"}) == []


def test_middleware_is_missing():
    """
    W001: without the middleware hits name no request.
    """
    assert ids(MIDDLEWARE=[SESSIONS]) == ["W001"]


@pytest.mark.parametrize("above", [[SESSIONS], [AUTH], [SESSIONS, AUTH]])
def test_middleware_is_too_low(above):
    """
    W002: below what touches the database it sees too little.
    """
    [(found_id, sentence)] = found(MIDDLEWARE=[*above, MIDDLEWARE])

    assert found_id == "W002"
    assert above[0] in sentence


def test_middleware_below_harmless_ones():
    """
    W002 is silent below middleware that is not known to touch the database.
    """
    security = "django.middleware.security.SecurityMiddleware"
    assert ids(MIDDLEWARE=[security, MIDDLEWARE, SESSIONS]) == []


def test_environment(monkeypatch):
    """
    W003: the variable that lets async-unsafe calls pass.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    assert ids() == ["W003"]

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "")
    assert ids() == []


def test_wsgi_only():
    """
    W004: a project without an ASGI application has no loop and so no hits.
    """
    assert ids(ASGI_APPLICATION=None, WSGI_APPLICATION="nowhere.wsgi.application") == ["W004"]
    assert ids(ASGI_APPLICATION=None, WSGI_APPLICATION="tests.wsgi.application") == []
    assert ids(ASGI_APPLICATION=None, WSGI_APPLICATION=None) == []


def test_exposure_without_debug():
    """
    W005: what is to be in responses is not, because DEBUG is off.
    """
    assert ids({"EXPOSE_IN_RESPONSE": True}) == ["W005"]
    assert ids({"EXPOSE_IN_RESPONSE": True}, DEBUG=True) == []


@pytest.mark.parametrize(
    "version, expected",
    [
        ("0.239.2", ["W006"]),
        ("0.240.0", []),
        ("1.0", []),
        ("1", []),
        ("0.240rc1", []),
        ("0.240.0.dev1+local", []),
    ],
)
def test_versions(monkeypatch, version, expected):
    """
    W006: a Strawberry that is older than the oldest one known.
    """
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: version if name == "strawberry-graphql" else real(name),
    )

    assert ids() == expected


def test_resume_without_greenlet(monkeypatch):
    """
    AUTO_RETRY = "resume" without greenlet is an error that says what to install.
    """
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "greenlet" else find_spec(name)
    )

    assert ids({"AUTO_RETRY": "resume"}) == ["E005"]
    assert ids({"AUTO_RETRY": "rerun"}) == []


@pytest.fixture
def serve(monkeypatch, settings):
    """Return a function that makes URL patterns the project's."""

    def serve(*patterns):
        module = types.ModuleType("served_urls")
        module.urlpatterns = patterns
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings.ROOT_URLCONF = module.__name__

    return serve


@strawberry.type
class Query:
    hello: str = "world"


class Own(AsyncGuardExtension):
    """A project's own variety."""


class View(AsyncGraphQLView):
    schema = strawberry.Schema(Query)


def wrapped(view):
    @functools.wraps(view)
    def wrapper(request):
        return view(request)

    return wrapper


def schema_with(*extensions):
    return strawberry.Schema(Query, extensions=extensions)


@pytest.mark.filterwarnings("ignore:Passing an extension instance:DeprecationWarning")
@pytest.mark.parametrize(
    "make_extensions, expected",
    [
        (list, ["W007"]),
        (lambda: [QueryDepthLimiter], ["W007"]),
        (lambda: [QueryDepthLimiter(max_depth=3)], ["W007"]),
        (lambda: [AsyncGuardExtension], []),
        (lambda: [AsyncGuardExtension()], []),
        (lambda: [QueryDepthLimiter, Own], []),
        (lambda: [lambda: pytest.fail("called")], []),
    ],
)
def test_schema_without_the_extension(serve, make_extensions, expected):
    """
    W007: a schema that surely has no extension of ours; a factory is not called to find out.
    """
    serve(path("graphql/", AsyncGraphQLView.as_view(schema=schema_with(*make_extensions()))))

    assert ids() == expected


def test_schema_is_found(serve):
    """
    W007 finds schemas in included and decorated views, tells each once, and says what to write.
    """
    schema = schema_with()
    view = wrapped(AsyncGraphQLView.as_view(schema=schema))
    serve(path("api/", include([path("v1/", view), path("v2/", view)])), path("", View.as_view()))

    with override_settings(ASYNC_GUARD={}):
        messages = run_checks(tags=["async_guard"])

    hint = (
        "Add it: strawberry.Schema(…, extensions=[AsyncGuardExtension]), with "
        "from async_guard.integrations.strawberry import AsyncGuardExtension."
    )
    said = "its hits name no operation, and how they ended may be told wrongly."
    assert [(each.id, each.msg, each.hint) for each in messages] == [
        (
            "async_guard.W007",
            f"The schema served at {route} has no AsyncGuardExtension: {said}",
            hint,
        )
        for route in ("api/v1/", "/")
    ]


def test_schemas_that_say_nothing(serve):
    """
    W007 is silent for synchronous views, schemas of another make, and URLs that cannot be read.
    """
    serve(
        path("sync/", GraphQLView.as_view(schema=schema_with())),
        path("other/", AsyncGraphQLView.as_view(schema=object())),
        path("none/", AsyncGraphQLView.as_view(schema=None)),
    )
    assert ids() == []
    assert ids(ROOT_URLCONF="no.such.module") == []
    assert ids(ROOT_URLCONF=None) == []


def test_schema_is_silenced(serve):
    """
    W007 may be silenced as any check of Django's.
    """
    serve(path("graphql/", View.as_view()))
    err = io.StringIO()

    with override_settings(ASYNC_GUARD={}, SILENCED_SYSTEM_CHECKS=["async_guard.W007"]):
        call_command("check", tags=["async_guard"], stdout=err, stderr=err)

    assert err.getvalue() == "System check identified no issues (1 silenced).\n"


@pytest.mark.parametrize("name", ["PROJECT_PATHS", "LIBRARY_PATHS"])
def test_folders(tmp_path, name):
    """
    W008: a folder that is not there, with one that is called nearly so.
    """
    (tmp_path / "shop").mkdir()
    (tmp_path / "file").write_text("")
    wrong = [tmp_path / "shpo", tmp_path / "file", tmp_path / "no" / "where"]

    with override_settings(ASYNC_GUARD={name: [tmp_path / "shop", *wrong]}):
        messages = run_checks(tags=["async_guard"])

    said = "which is no folder, so no code is in it."
    assert [(each.id, each.msg, each.hint) for each in messages] == [
        ("async_guard.W008", f"ASYNC_GUARD['{name}'] names {path}, {said}", hint)
        for path, hint in zip(
            wrong,
            [f"Did you mean {tmp_path / 'shop'}?", *[f"Mend it, or remove it from {name}."] * 2],
            strict=True,
        )
    ]


@pytest.mark.parametrize("name", ["RETRY_ALLOW", "RETRY_DENY"])
def test_retry_patterns_without_a_retry(name):
    """
    W009: patterns for retries that never happen.
    """
    assert found({name: ["Query.*"]}) == [
        ("W009", f"ASYNC_GUARD['{name}'] does nothing while AUTO_RETRY is 'off'.")
    ]
    assert ids({name: ["Query.*"], "AUTO_RETRY": "rerun"}) == []
    assert ids({name: []}) == []


def test_middleware_twice():
    """
    W010: two of the same middleware.
    """
    assert found(MIDDLEWARE=[MIDDLEWARE, SESSIONS, MIDDLEWARE]) == [
        ("W010", f"{MIDDLEWARE} is in MIDDLEWARE 2 times.")
    ]


def test_documented():
    """
    Every check has its line in the documentation, and no other has.
    """
    source = Path(checks.__file__).read_text("utf-8")
    written = re.findall(r"^\| `([EW]\d+)` \|", (ROOT / "docs/checks.md").read_text("utf-8"), re.M)

    assert written == sorted(set(re.findall(r"async_guard\.([EW]\d{3})", source)))


def test_several_at_once(monkeypatch):
    """
    Warnings and errors stand beside each other.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    assert ids({"SINKS": ["no.such"], "EXPOSE_IN_RESPONSE": True}, MIDDLEWARE=[]) == [
        "E003",
        "W005",
        "W001",
        "W003",
    ]


def test_command():
    """
    ``manage.py check`` fails for an error, and says nothing where nothing is wrong.
    """
    out = io.StringIO()
    with override_settings(ASYNC_GUARD={}):
        call_command("check", tags=["async_guard"], stdout=out, stderr=out)
    with override_settings(ASYNC_GUARD={"BRUST": 1}), pytest.raises(CommandError) as caught:
        call_command("check", tags=["async_guard"], stdout=out, stderr=out)

    assert out.getvalue() == "System check identified no issues (0 silenced).\n"
    assert "(async_guard.E001) ASYNC_GUARD has no key 'BRUST'" in str(caught.value)


def test_registered_in_a_fresh_process(project: Project):
    """
    The checks are there in every process that has the app, also where it is disabled or broken.
    """
    body = """
from django.core.checks import registry
print("async_guard" in registry.registry.tags_available())
"""

    assert project.run(body).out == "True\n"
    assert project.run(body, guard={"ENABLED": False}).out == "True\n"
    assert project.run(body, guard={"BRUST": 1}).out == "True\n"
