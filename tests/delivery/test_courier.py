"""``Courier``: from a settled hit to every sink, and what was only counted to the summary."""

import asyncio
import gc
import time
from collections import Counter

import pytest
import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.test import AsyncClient, override_settings

import async_guard
from async_guard.guard import guard
from async_guard.testing import capture_hits
from tests.delivery import sinks
from tests.delivery.process import Project, hits_of, lines_by_event, read_events, total
from tests.delivery.urls import swallow

HERE = "tests.delivery.sinks"


@pytest.fixture(autouse=True)
def forget():
    sinks.forget()
    yield
    sinks.GO_ON.set()
    sinks.forget()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hits.jsonl"


def with_settings(path, *names, **more):
    return override_settings(
        ROOT_URLCONF="tests.delivery.urls",
        ASYNC_GUARD={"LOG_FILE": path, "SINKS": [f"{HERE}.{name}" for name in names], **more},
    )


async def ask(url="/hit/"):
    response = await AsyncClient().get(url)
    return response.status_code, response.content


# --- first in full, then counted -----------------------------------------------------------------


def test_burst_in_full_then_a_summary(path):
    """
    Five hits of a fingerprint are logged in full, the other seven are one line of the summary.
    """
    with with_settings(path), async_guard.guarded():
        asyncio.run(swallow(12))
        assert async_guard.flush()
        assert async_guard.totals() == {"swallowed": 12}

    *hits, summary = read_events(path)
    assert [event["async_guard.count"] for event in hits] == [1] * 5
    assert lines_by_event(hits) == {"async_guard.hit": 5}
    told = {key: summary[key] for key in ("event", "level", "async_guard.count")}
    assert told == {"event": "async_guard.summary", "level": "info", "async_guard.count": 7}
    assert len({event["async_guard.fingerprint"] for event in [*hits, summary]}) == 1
    assert len({event["async_guard.hit_id"] for event in hits}) == 5


def test_summary_names_nothing_of_one_hit(path):
    """
    A summary stands for many hits, so it has no id, trace, request or duration of one of them.
    """
    ids = {"request_id": "r-1", "correlation_id": "c-1"}
    bound = structlog.contextvars.bound_contextvars(**ids)

    with with_settings(path, BURST=1), capture_hits(), bound:
        for _ in range(3):
            asyncio.run(ask())

    hit, summary = read_events(path)
    assert hit["correlation_id"] == "c-1"
    assert sorted(hit.keys() - summary.keys()) == [
        "async_guard.frames",
        "async_guard.hit_id",
        "async_guard.view",
        "correlation_id",
        "http.request.method",
        "http.route",
        "request_id",
    ]


def test_summary_every_interval(path):
    """
    What is counted is told while the process runs, once per interval.
    """
    with with_settings(path, SUMMARY_INTERVAL_S=0.1, BURST=1), async_guard.guarded():
        for number in range(1, 3):
            asyncio.run(swallow(10))
            deadline = time.monotonic() + 5
            while total(read_events(path)) < 10 * number and time.monotonic() < deadline:
                time.sleep(0.02)
        events = read_events(path)

    assert events == read_events(path)
    assert total(events) == 20
    assert lines_by_event(events) == {"async_guard.hit": 1, "async_guard.summary": 2}


def test_summary_at_the_end_of_the_process(project: Project):
    """
    A process that ends normally has told of every hit.
    """
    project.run("asyncio.run(swallow(1234))")

    events = project.events()
    assert lines_by_event(events) == {"async_guard.hit": 5, "async_guard.summary": 1}
    assert total(events) == 1234


def test_summary_at_sys_exit_and_error(project: Project):
    """
    A process that ends by an exception has told of every hit, too.
    """
    script = project.write("asyncio.run(swallow(50))\nraise RuntimeError")

    process = project.start(str(script))
    process.communicate(timeout=30)

    assert process.returncode == 1
    assert total(project.events()) == 50


def test_hundred_thousand_hits_of_one_fingerprint(project: Project):
    """
    100,000 hits of one line are a few lines of log, exact totals, and no memory.
    """
    body = """
import tracemalloc
from django.db import connection

async def many(times):
    for _ in range(times):
        try:
            connection.cursor()
        except Exception:
            pass

asyncio.run(many(2000))
gc.collect()
tracemalloc.start()
asyncio.run(many(500))
gc.collect()
before = tracemalloc.get_traced_memory()[0]
asyncio.run(many(2500))
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - before
tracemalloc.stop()
asyncio.run(many(95_000))
assert async_guard.flush(30)
print(grown, async_guard.totals(), len(guard._pending._pending))
"""

    run = project.run(body)

    grown, totals = run.out.split(maxsplit=1)
    assert totals == "{'swallowed': 100000} 0\n"
    assert int(grown) < 100_000
    assert total(project.events()) == 100_000
    assert len(project.events()) < 20


def test_hundred_thousand_fingerprints(project: Project):
    """
    100,000 fingerprints take bounded memory; what was forgotten or dropped is told and counted.
    """
    body = """
import tracemalloc
from async_guard.courier import Courier
from async_guard.hit import Hit
from async_guard.settings import get_settings

logging.getLogger("async_guard").setLevel("CRITICAL")
courier = Courier(lambda: None)
courier.open(get_settings())
courier.start()

def deliver(numbers):
    for number in numbers:
        fingerprint = f"{number:016x}"
        hit = Hit(fingerprint=fingerprint, hit_id=f"{number:032x}", version="0.1.0", path="app.py")
        courier.deliver(hit, "raised", is_full=courier.limiter.admit(fingerprint))

deliver(range(2_000))
courier.flush(time.monotonic() + 30)
tracemalloc.start()
deliver(range(2_000, 3_500))
courier.flush(time.monotonic() + 30)
gc.collect()
before = tracemalloc.get_traced_memory()[0]
deliver(range(3_500, 5_500))
courier.flush(time.monotonic() + 30)
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - before
tracemalloc.stop()
deliver(range(5_500, 100_000))
assert courier.flush(time.monotonic() + 30)
print(grown, courier.limiter.totals)
"""

    run = project.run(body, guard={"MAX_FINGERPRINTS": 100, "QUEUE_SIZE": 500})

    grown, totals = run.out.split(maxsplit=1)
    events = project.events(every=50)
    losses = [event for event in events if "async_guard.evicted" in event]
    assert totals == "{'raised': 100000}\n"
    assert int(grown) < 200_000
    assert sum(event["async_guard.evicted"] for event in losses) == 100_000 - 100
    assert all(event["async_guard.evicted_fingerprints"] for event in losses)
    assert total(events) == 100_000


def test_thousands_of_generated_files(project: Project):
    """
    Thousands of real lines in as many files take bounded memory, and every hit is counted.
    """
    body = """
logging.getLogger("async_guard").setLevel("CRITICAL")
SOURCE = '''
async def swallow_{0}(model):
    for _ in range(2):
        try:
            list(model.objects.all())
        except Exception:
            pass
'''
folder = os.path.dirname(os.path.abspath(__file__))

async def main():
    for number in range(1000):
        scope = {"__name__": f"generated_{number}"}
        code = compile(SOURCE.format(number), f"{folder}/generated_{number}.py", "exec")
        exec(code, scope)
        await scope[f"swallow_{number}"](Group)

asyncio.run(main())
assert async_guard.flush(30)
print(len(guard._problems._known) <= 50, len(guard._courier.limiter._logged) <= 50)
print(async_guard.totals())
"""

    run = project.run(body, guard={"MAX_FINGERPRINTS": 50, "QUEUE_SIZE": 100, "BURST": 1})

    assert run.out == "True True\n{'swallowed': 2000}\n"
    assert total(project.events(every=50)) == 2000


def test_slow_file_loses_no_count(project: Project):
    """
    What a full queue refuses is counted, and flush() waits for that, too.
    """
    body = """
from async_guard.sinks import FileSink
note = FileSink.note

def slow(sink, *args):
    time.sleep(0.01)
    note(sink, *args)

FileSink.note = slow
asyncio.run(swallow(200))
assert async_guard.flush(30)
os._exit(0)
"""

    project.run(body, guard={"QUEUE_SIZE": 10, "BURST": 1000})

    events = project.events()
    dropped = [event for event in events if event["event"] == "async_guard.dropped"]
    assert sum(event["async_guard.dropped"] for event in dropped) > 0
    assert {event["level"] for event in dropped} == {"warning"}
    assert total(events) == 200


def test_slow_log_does_not_count_twice_in_the_file(project: Project):
    """
    What only the log had no room for is in the file once.
    """
    body = """
from async_guard.sinks import LogSink
note = LogSink.note

def slow(sink, *args):
    time.sleep(0.01)
    note(sink, *args)

LogSink.note = slow

async def main():
    for _ in range(100):
        await swallow(2)
        await asyncio.sleep(0.002)

asyncio.run(main())
assert async_guard.flush(30)
"""

    project.run(body, guard={"QUEUE_SIZE": 10, "BURST": 1000})

    assert total(project.events()) == 200


def test_stuck_log_takes_bounded_memory(project: Project):
    """
    While the log is stuck for good, what waits for it does not grow with every summary.
    """
    body = """
import tracemalloc
from async_guard.courier import Courier
from async_guard.hit import Hit
from async_guard.settings import get_settings
from async_guard.sinks import LogSink

LogSink.note = lambda *args: time.sleep(1000)
courier = Courier(lambda: None)
courier.open(get_settings())

def summarise(times):
    for _ in range(times):
        for number in range(20):
            courier.limiter.count(Hit(fingerprint=f"{number:016x}"), "raised")
        courier.summarise()

summarise(50)
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
summarise(100)
print(tracemalloc.get_traced_memory()[0] - before)
sys.stdout.flush()
os._exit(0)
"""

    run = project.run(body, guard={"QUEUE_SIZE": 10, "LOG_FILE": None})

    assert int(run.out) < 200_000


# --- sinks that misbehave ------------------------------------------------------------------------


def test_sink_that_raises(path):
    """
    A sink that raises is told of once, goes on being called, and breaks nothing.
    """
    with with_settings(path, "raising", "good"), async_guard.guarded():
        assert asyncio.run(ask("/hit/3/")) == (200, b"3")
        assert async_guard.flush()

    ids = [hit.hit_id for hit in sinks.RECEIVED]
    events = read_events(path)
    [failure] = [each for each in events if each["event"] == "async_guard.sink_failed"]
    assert (failure["async_guard.sink"], failure["exception.type"]) == ("raising", "ValueError")
    assert "trouble" not in path.read_text()
    assert list(Counter(ids).values()) == [2, 2, 2]
    assert {each["async_guard.hit_id"] for each in hits_of(events)} == set(ids)


@pytest.mark.parametrize("name", ["exiting", "cancelled"])
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_sink_that_raises_a_base_exception(path, name):
    """
    SystemExit or CancelledError in a sink ends neither its thread nor the one that flushes.
    """
    with with_settings(path, name), async_guard.guarded():
        asyncio.run(swallow(2))
        assert async_guard.flush()
        time.sleep(0.1)
        asyncio.run(swallow(2))
        assert async_guard.flush()

    assert len(sinks.RECEIVED) == 4
    assert len(hits_of(read_events(path))) == 4


def test_sink_that_blocks(path):
    """
    A sink that sleeps delays neither the request nor the others, and flush() keeps its time.
    """
    with with_settings(path, "blocking", "good"):
        async_guard.install()
        try:
            began = time.monotonic()
            assert asyncio.run(ask("/hit/2/")) == (200, b"2")
            answered = time.monotonic()
            assert async_guard.flush(0.5) is False
            flushed = time.monotonic()
            assert len(sinks.RECEIVED) == 3  # one in the blocking sink, both in the good one
            assert len(read_events(path)) == 2
        finally:
            sinks.GO_ON.set()
            async_guard.uninstall()

    assert answered - began < 10  # the sink sleeps for thirty seconds
    assert 0.4 < flushed - answered < 10
    assert len(sinks.RECEIVED) == 4


def test_process_ends_although_a_sink_sleeps(project: Project):
    """
    A sink that sleeps for good delays the end of the process by seconds, and loses no other's hit.
    """
    (project.folder / "bad_sinks.py").write_text("import time\ndef sleep(hit): time.sleep(600)\n")
    began = time.monotonic()

    project.run("asyncio.run(swallow(20))", guard={"SINKS": ["bad_sinks.sleep"]})

    assert time.monotonic() - began < 30
    assert total(project.events()) == 20


@pytest.mark.django_db(transaction=True)
def test_sink_that_uses_the_orm(path):
    """
    A sink may use the database: that is no hit, and its connection is closed again.
    """
    with with_settings(path, "counting_users", "left_open"), async_guard.guarded():
        asyncio.run(swallow(4))
        assert async_guard.flush()
        assert async_guard.totals() == {"swallowed": 4}
        alive = {thread.is_alive() for thread in sinks.THREADS}

    assert (alive, len(sinks.THREADS)) == ({True}, 1)
    assert sinks.RESULTS == [0] * 8
    assert len(read_events(path)) == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_sink_whose_connection_cannot_be_closed(path):
    """
    A connection that fails when it is closed does not end the sink's thread.
    """
    with with_settings(path, "broken_connection"), async_guard.guarded():
        for number in range(1, 4):
            asyncio.run(swallow())
            assert async_guard.flush(2)
            assert len(sinks.RECEIVED) == number

    assert total(read_events(path)) == 3


@pytest.mark.django_db(transaction=True)
def test_sink_that_runs_a_loop(path):
    """
    Whatever a sink does with the database, in a loop or a thread of its own, is no hit.
    """
    Group.objects.bulk_create(Group(name=str(number)) for number in range(8))
    with with_settings(path, "looping"), async_guard.guarded():
        asyncio.run(swallow())
        for _ in range(3):
            gc.collect()
            assert async_guard.flush()
        totals = async_guard.totals()

    assert sinks.RESULTS == ["SynchronousOnlyOperation", [0] * 8]
    assert totals == {"swallowed": 1}


@pytest.mark.django_db(transaction=True)
def test_sink_that_runs_a_loop_for_a_hit_in_a_thread(path):
    """
    A sink may use sync_to_async, also for a hit that was noticed in a thread of asgiref's.
    """
    Group.objects.bulk_create(Group(name=str(number)) for number in range(8))
    with with_settings(path, "asynchronous"), async_guard.guarded():
        asyncio.run(sync_to_async(sinks.read_permissions)())
        gc.collect()
        assert async_guard.flush()

    assert [hit.kind for hit in sinks.RECEIVED] == ["n_plus_one"]
    assert lines_by_event(read_events(path)) == {"async_guard.hit": 1}
    assert sinks.RESULTS == [0]


def test_sink_that_flushes(path):
    """
    A sink that calls flush() does not wait for itself.
    """
    with with_settings(path, "flushing"), async_guard.guarded():
        asyncio.run(swallow(3))
        began = time.monotonic()
        assert async_guard.flush()
        took = time.monotonic() - began

    assert sinks.RESULTS == [True] * 3
    assert took < 4  # less than what a flush() waits at most
    assert len(read_events(path)) == 3


def test_two_sinks_that_flush(path):
    """
    Two sinks that call flush() do not wait for each other.
    """
    with with_settings(path, "flushing", "flushing_too"), async_guard.guarded():
        asyncio.run(swallow(2))
        began = time.monotonic()
        assert async_guard.flush(30)
        took = time.monotonic() - began

    assert len(sinks.RECEIVED) == 4
    assert took < 4  # less than what a flush() waits at most


def test_sink_added_and_removed(path):
    """
    A sink added later gets every hit in full, also the counted ones, until it is removed.
    """
    found = []

    with with_settings(path, BURST=2), async_guard.guarded():
        guard.add_sink(found.append)
        asyncio.run(swallow(3))
        guard.remove_sink(found.append)
        asyncio.run(swallow(4))

    assert [hit.outcome for hit in found] == ["swallowed"] * 3
    assert all(hit.frames and hit.rule and hit.hit_id for hit in found)
    assert total(read_events(path)) == 7


def test_removed_sink_gets_nothing_of_another_problem(path):
    """
    A removed sink gets nothing, not even the first hit of another line.
    """
    found = []

    with with_settings(path), async_guard.guarded():
        guard.add_sink(found.append)
        guard.remove_sink(found.append)
        asyncio.run(swallow(1))

    assert found == []


def test_captured_block_begins_where_it_begins(path):
    """
    Hits noticed before the block are not among those captured in it.
    """
    with with_settings(path), async_guard.guarded():
        for _ in range(20):
            asyncio.run(swallow(1))
            with capture_hits() as hits:
                pass
            assert hits == []
