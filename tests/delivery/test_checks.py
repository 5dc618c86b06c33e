"""System checks: each fires where something is wrong, and is silent where nothing is."""

import importlib.metadata
import io

import asgiref.sync
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db.models.query import ModelIterable
from django.test import override_settings

from async_guard.checks import MIDDLEWARE
from tests.delivery.process import Project

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
