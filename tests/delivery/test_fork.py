"""After ``fork``: the child logs what it noticed, and nothing of its parent's."""

import multiprocessing
import os
from collections import Counter

import pytest

from tests.delivery.process import Project, hits_of, total
from tests.delivery.test_log import PROCESSOR_FORMATTER, STRUCTLOG_JSON

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

FORKS = """
import signal
import warnings
warnings.simplefilter("ignore", DeprecationWarning)


async def swallow_in_child(times):
    for _ in range(times):
        try:
            list(User.objects.all())
        except Exception:
            pass


over = threading.Event()

def hit_in_parent():
    while not over.is_set():
        asyncio.run(swallow(20))
        time.sleep(0.001)

threads = [threading.Thread(target=hit_in_parent) for _ in range(2)]
for thread in threads:
    thread.start()
time.sleep(0.05)
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(25)
        asyncio.run(swallow_in_child(8))
        os._exit(0 if async_guard.flush() and async_guard.totals() == {"swallowed": 8} else 3)
    assert os.waitpid(pid, 0)[1] == 0
over.set()
for thread in threads:
    thread.join()
assert async_guard.flush()
print(async_guard.totals()["swallowed"])
"""


@pytest.mark.parametrize(
    "before", ["", STRUCTLOG_JSON, PROCESSOR_FORMATTER], ids=["logging", "structlog", "formatter"]
)
def test_forks_under_hits(project: Project, before: str):
    """
    Twenty forks while other threads hit: every child logs its own hits, and nothing locks.
    """
    run = project.run(FORKS, timeout=120, before=before, guard={"BURST": 5})

    events = project.events()
    pids = {event["process.pid"] for event in hits_of(events)}
    of_children = [each for each in events if "swallow_in_child" in each["code.function.name"]]
    of_parent = [each for each in events if each not in of_children]
    assert len(pids) == 21
    assert len({each["process.pid"] for each in hits_of(of_parent)}) == 1
    assert Counter(each["process.pid"] for each in hits_of(of_children)).total() == 20 * 5
    assert total(of_children) == 20 * 8
    assert total(of_parent) == int(run.out.splitlines()[-1])
    assert len({each["async_guard.hit_id"] for each in hits_of(events)}) == len(hits_of(events))


def test_fork_while_the_log_is_written(project: Project):
    """
    A fork in the middle of a line of ours leaves the project's log free in the child.
    """
    body = """
import signal

class Slow:
    def __init__(self, stream):
        self.stream, self.writes = stream, threading.Event()

    def write(self, text):
        self.writes.set()
        time.sleep(0.1)
        return self.stream.write(text)

    def flush(self):
        self.stream.flush()

slow = Slow(sys.stdout)
structlog.configure(logger_factory=structlog.PrintLoggerFactory(slow))
asyncio.run(swallow(1))
assert slow.writes.wait(10)
pid = os.fork()
if pid == 0:
    signal.alarm(10)
    structlog.get_logger().info("from the child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert async_guard.flush()
"""

    run = project.run(body, before=STRUCTLOG_JSON)

    assert "from the child" in run.out


def test_fork_does_not_repeat_what_was_queued(project: Project):
    """
    What waited in the parent's queues when it forked is written by the parent alone.
    """
    body = """
from async_guard.sinks import FileSink
note = FileSink.note

def slow(sink, *args):
    time.sleep(0.02)
    note(sink, *args)

FileSink.note = slow
asyncio.run(swallow(20))
pid = os.fork()
if pid == 0:
    os._exit(0 if async_guard.flush() and async_guard.totals() == {} else 3)
assert os.waitpid(pid, 0)[1] == 0
"""

    project.run(body, guard={"BURST": 10})

    events = project.events()
    assert len({each["async_guard.hit_id"] for each in hits_of(events)}) == 10
    assert total(events) == 20


def test_fork_does_not_repeat_loads(project: Project):
    """
    Loads that the parent counted in an operation still open are told by the parent alone.
    """
    body = """
from asgiref.sync import sync_to_async
from django.core.management import call_command

call_command("migrate", verbosity=0)
Group.objects.bulk_create(Group(name=str(number)) for number in range(8))

def read_permissions():
    [len(group.permissions.all()) for group in Group.objects.all()]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if async_guard.flush() else 3)
    assert os.waitpid(pid, 0)[1] == 0

asyncio.run(sync_to_async(read_permissions)())
async_guard.flush()
"""

    project.run(body)

    [hit] = project.events()
    assert (hit["async_guard.kind"], hit["async_guard.count"]) == ("n_plus_one", 8)


def test_child_that_ends_normally(project: Project):
    """
    A child that ends like any program has told of every hit, and the parent of its own.
    """
    body = """
asyncio.run(swallow(10))
pid = os.fork()
asyncio.run(swallow(30 if pid == 0 else 50))
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""

    project.run(body)

    assert total(project.events()) == 90


@pytest.mark.parametrize("method", sorted(multiprocessing.get_all_start_methods()))
def test_multiprocessing(project: Project, method: str):
    """
    A child of multiprocessing has told of every hit when it ends.
    """
    body = f"""
import multiprocessing

def work(times):
    asyncio.run(swallow(times))

if __name__ == "__main__":
    asyncio.run(swallow(10))
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(20,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""

    project.run(body)

    events = project.events()
    assert total(events) == 50
    assert Counter(Counter(e["process.pid"] for e in hits_of(events)).values()) == {5: 3}
