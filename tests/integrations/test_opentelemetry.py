"""The ids of the span that is recorded while a hit is noticed."""

import subprocess
import sys

import pytest

from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.integrations.catalogue import build
from tests.integrations.driving import in_task

pytest.importorskip("opentelemetry.sdk", reason="needs the OpenTelemetry SDK")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("films")]

QUERY = '{ plainFilm(title: "M") { directorName } }'


def ids(hits):
    return [(hit.trace_id, hit.span_id, hit.trace_flags) for hit in hits]


async def test_recorded_span():
    """
    A hit has the ids of the span that is active, in hex as OpenTelemetry writes them.
    """
    tracer = TracerProvider().get_tracer("tests")
    schema = build(AsyncGuardExtension)

    async def work():
        with tracer.start_as_current_span("request") as span:
            await schema.execute(QUERY)
            return span.get_span_context()

    with capture_hits() as hits:
        context = await in_task(work())

    flags = f"{context.trace_flags:02x}"
    assert context.trace_flags.sampled
    assert ids(hits) == [(f"{context.trace_id:032x}", f"{context.span_id:016x}", flags)]


async def test_span_that_is_not_sampled():
    """
    The flags say where the trace is not sampled.
    """
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("tests")
    schema = build(AsyncGuardExtension)

    async def work():
        with tracer.start_as_current_span("request") as span:
            await schema.execute(QUERY)
            return span.get_span_context()

    with capture_hits() as hits:
        context = await in_task(work())

    flags = f"{context.trace_flags:02x}"
    assert not context.trace_flags.sampled
    assert ids(hits) == [(f"{context.trace_id:032x}", f"{context.span_id:016x}", flags)]


async def test_no_span():
    """
    Without a span there are no ids.
    """
    with capture_hits() as hits:
        await in_task(build(AsyncGuardExtension).execute(QUERY))

    assert ids(hits) == [(None, None, None)]


async def test_not_imported():
    """
    Nobody who does not use OpenTelemetry imports it because of us.
    """
    code = """
import sys, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["async_guard"], ASYNC_GUARD={"ENABLED": True})
django.setup()
import async_guard.middleware, async_guard.integrations.strawberry
assert async_guard.installed()
print("opentelemetry" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
