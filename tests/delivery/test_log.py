"""``LogSink``: one event through whatever logging the project has set up."""

import json

import pytest

from tests.delivery.process import VALIDATOR, Project, total, without_envelope

SHARED = """
import structlog
shared = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.CallsiteParameterAdder(),
]
"""
STRUCTLOG_JSON = f"""{SHARED}
structlog.configure(processors=[*shared, structlog.processors.JSONRenderer()])
"""
PROCESSOR_FORMATTER = f"""{SHARED}
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[
    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    structlog.processors.JSONRenderer(),
]))
logging.getLogger().addHandler(handler)
structlog.configure(
    processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
"""
RECORDS = """
import json

class Records(logging.Formatter):
    def format(self, record):
        return json.dumps({"event": record.getMessage(), **vars(record)}, default=str)

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Records())
logging.getLogger().addHandler(handler)
"""
LOG_KWARGS = f"""{SHARED}{RECORDS}
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.render_to_log_kwargs],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
"""
ONE_HIT = "asyncio.run(swallow())"


@pytest.fixture(autouse=True)
def is_counted(project: Project) -> None:
    """What a project may have configured runs in no other tests."""
    project.is_counted = True


def printed(run):
    return [json.loads(line) for line in run.out.splitlines()]


@pytest.mark.parametrize("before", [STRUCTLOG_JSON, PROCESSOR_FORMATTER], ids=["json", "formatter"])
def test_structlog_event_is_the_event_of_the_file(project: Project, before: str):
    """
    What structlog prints has every key of the event with its value, and fits the schema.
    """
    *_, event = printed(project.run(ONE_HIT, before=before))

    [told] = project.hits()
    VALIDATOR.validate(event)
    assert event | without_envelope(told) == event
    assert (event["event"], event["level"]) == ("async_guard.hit", "error")


def test_log_kwargs_become_attributes_of_the_record(project: Project):
    """
    With render_to_log_kwargs every key but ``message``, which logging owns, is on the record.
    """
    [record] = printed(project.run(ONE_HIT, before=LOG_KWARGS))

    [told] = project.hits()
    expected = without_envelope(told) | {"event": "async_guard.hit"}
    expected.pop("message")
    assert record | expected == record
    assert (record["name"], record["levelname"]) == ("async_guard", "ERROR")


def test_plain_logging_prints_one_line_on_stderr(project: Project):
    """
    Without any logging set-up a hit is one readable line on stderr, and nothing on stdout.
    """
    run = project.run(ONE_HIT)

    [told] = project.hits()
    found = f"rule={told['async_guard.rule']} fingerprint={told['async_guard.fingerprint']}"
    line = f"async_guard.hit: {told['message']} [outcome=swallowed {found} count=1]\n"
    assert (run.out, run.err) == ("", line)


INFO = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"async_guard": {"handlers": ["console"], "level": "INFO"}},
}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["hit"] * 5),
        ({"LOGGING": {**INFO, "loggers": {}, "root": {"handlers": ["console"]}}}, ["hit"] * 5),
        ({"LOGGING": INFO}, ["started", *["hit"] * 5, "summary"]),
    ],
    ids=["no LOGGING", "a root without a level", "as the README says"],
)
def test_level(project: Project, settings, names):
    """
    Without a level only hits are shown, as the README says; the file has the summary all the same.
    """
    run = project.run("asyncio.run(swallow(20))", **settings)

    shown = [line.partition(":")[0] for line in run.err.splitlines()]
    assert shown == [f"async_guard.{name}" for name in names]
    assert total(project.events()) == 20


def test_plain_logging_has_every_key_on_the_record(project: Project):
    """
    A JSON formatter of logging finds every key of the event as an attribute.
    """
    [record] = printed(project.run(ONE_HIT, before=RECORDS))

    [told] = project.hits()
    expected = without_envelope(told)
    expected.pop("message")
    assert record | expected == record


def test_record_factory_with_the_same_names(project: Project):
    """
    A project whose log records have a ``request_id`` of their own still gets its hits.
    """
    before = f"""{RECORDS}
make = logging.getLogRecordFactory()

def with_request_id(*args, **kwargs):
    record = make(*args, **kwargs)
    record.request_id = "-"
    return record

logging.setLogRecordFactory(with_request_id)
"""
    body = """
import structlog
structlog.contextvars.bind_contextvars(request_id="r-1")
asyncio.run(swallow())
"""

    records = printed(project.run(body, before=before))

    [told] = project.hits()
    expected = {"levelname": "ERROR", "async_guard.hit_id": told["async_guard.hit_id"]}
    assert [record | expected == record for record in records] == [True]


def test_renamed_event_is_found_by_its_value(project: Project):
    """
    Where the project renames ``event``, nothing but that name changes.
    """
    before = f"""{SHARED}
rename = structlog.processors.EventRenamer("msg")
structlog.configure(processors=[*shared, rename, structlog.processors.JSONRenderer()])
"""

    _, event = printed(project.run(ONE_HIT, before=before))

    [told] = project.hits()
    expected = without_envelope(told) | {"msg": "async_guard.hit"}
    assert event | expected == event


def test_event_renamed_to_message_keeps_the_sentence(project: Project):
    """
    Where the project calls its events ``message``, the sentence for people is not lost.
    """
    before = f"""{SHARED}
rename = structlog.processors.EventRenamer("message")
structlog.configure(processors=[*shared, rename, structlog.processors.JSONRenderer()])
"""

    run = project.run(ONE_HIT, before=before)

    [told] = project.hits()
    assert "async_guard.hit" in run.out
    assert told["message"] in run.out


def test_async_bound_logger(project: Project):
    """
    A logger whose methods are coroutines prints the event, too.
    """
    before = f"""{SHARED}
structlog.configure(
    processors=[*shared, structlog.processors.JSONRenderer()],
    wrapper_class=structlog.stdlib.AsyncBoundLogger,
)
"""

    run = project.run(ONE_HIT, before=before)

    [told] = project.hits()
    found = [event.get("async_guard.hit_id") for event in printed(run)]
    assert found == [None, told["async_guard.hit_id"]]
    assert run.err == ""


def test_django_structlog_request_id(project: Project):
    """
    The request id that django-structlog keeps is in the log and in the file.
    """
    pytest.importorskip("django_structlog")
    body = """
import httpx
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

async def view(request):
    await swallow()
    return HttpResponse()

urlpatterns = [path("hit/", view)]

async def main():
    transport = httpx.ASGITransport(get_asgi_application())
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.get("/hit/")).status_code == 200

sys.modules["project"] = sys.modules["__main__"]
asyncio.run(main())
"""
    run = project.run(
        body,
        before=STRUCTLOG_JSON,
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django_structlog",
            "async_guard",
        ],
        MIDDLEWARE=[
            "async_guard.middleware.AsyncGuardMiddleware",
            "django_structlog.middlewares.RequestMiddleware",
        ],
    )

    started = printed(run)[0]
    [logged] = [event for event in printed(run) if event["event"] == "async_guard.hit"]
    [told] = project.hits()
    assert logged | without_envelope(told) == logged
    names = ("request_id", "http.request.method", "http.route", "async_guard.view")
    assert [told[name] for name in names] == [started["request_id"], "GET", "hit/", "__main__:view"]
