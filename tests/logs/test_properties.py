"""Writers that interleave and lines that are cut: no hit is passed over without a word."""

import io
import json
import os
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from async_guard.hit import HIT, SUMMARY
from async_guard.logs import reader
from async_guard.logs.accounts import Accounts
from async_guard.logs.compression import opened
from async_guard.logs.reader import Reader
from async_guard.logs.scanner import Scanner
from async_guard.logs.tally import Tallies
from tests.logs.making import FOREIGN, as_dict, counts, event, nested
from tests.logs.test_envelopes import docker, otlp, otlp_record

MANY = int(os.environ.get("ASYNC_GUARD_EXAMPLES", "60"))
SLOW = settings(
    max_examples=MANY, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


class Read:
    """What is read from bytes; has what ``Result`` has."""

    def __init__(self, data: bytes) -> None:
        self.accounts, self.tallies = Accounts(), Tallies()
        reader = Reader("app.log", self.accounts, self.tallies.count)
        stream = opened(io.BytesIO(data))
        scanner = Scanner(stream)
        for offset, line in scanner.interesting(reader.wants_next):
            reader.feed(offset, line)
        reader.finish(stream.damage)
        self.accounts.lines = scanner.lines


def short(number: int) -> dict:
    """Return a hit with few frames: small examples say more."""
    return {key: value for key, value in event(number).items() if key != "async_guard.frames"}


WRAPPERS = [
    lambda n: json.dumps(short(n)),
    lambda n: json.dumps(nested(short(n))),
    lambda n: json.dumps(dict(reversed(short(n).items()))),
    lambda n: docker(json.dumps(short(n)) + "\n"),
    lambda n: f"web-1  | {json.dumps(short(n))}",
    lambda n: otlp(otlp_record(n)),
    lambda n: json.dumps(event(n), separators=(",", ":")),
]


@st.composite
def logs(draw):
    """Draw lines of ours and of others; the number of ours is that of the first ones."""
    wrappers = draw(st.lists(st.sampled_from(WRAPPERS), min_size=1, max_size=6))
    lines = [wrap(number) for number, wrap in enumerate(wrappers, 1)]
    foreign = draw(st.lists(st.sampled_from([FOREIGN, "text", "", "{'a': 1}", "\x00"]), max_size=4))
    order = draw(st.permutations([*lines, *foreign]))
    return len(lines), list(order)


@given(logs())
@SLOW
def test_whole_lines(log):
    """
    Undamaged lines are all read, in any envelope and order.
    """
    number, lines = log
    read = Read("\n".join([*lines, ""]).encode())

    assert counts(read) == dict.fromkeys(range(1, number + 1), 1)
    assert (read.accounts.recovered, read.accounts.lost, read.accounts.cut) == (0, 0, 0)
    assert read.accounts.lines == len(lines)


@given(logs(), st.data())
@SLOW
def test_cut_anywhere(log, data):
    """
    However a file ends, what stood before the cut is read, and the cut line is told.
    """
    _, lines = log
    text = "\n".join([*lines, ""]).encode()
    cut = data.draw(st.integers(0, len(text)))
    whole = Read(text[: text.rfind(b"\n", 0, cut) + 1])
    read = Read(text[:cut])

    missing = text[text.rfind(b"\n", 0, cut) + 1 : cut]
    assert sum(counts(read).values()) >= sum(counts(whole).values())
    told = read.accounts.lost + read.accounts.cut + len(counts(read)) - len(counts(whole))
    if b"async_guard" in missing:
        assert told >= 1
    assert read.accounts.lines == whole.accounts.lines + bool(missing)


@given(st.integers(2, 5), st.data())
@SLOW
def test_interleaved(number, data):
    """
    Writers whose lines come between each other's lose nothing in silence.
    """
    queues = [[json.dumps(short(n)) + "\n"] for n in range(1, number + 1)]
    for queue in queues:
        for _ in range(data.draw(st.integers(0, 2))):
            text = queue.pop()
            cut = data.draw(st.integers(0, len(text)))
            queue += [text[:cut], text[cut:]]
    written = []
    while any(queues):
        written.append(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    read = Read("".join(written).encode())

    found = counts(read)
    told = len(found) + read.accounts.lost + read.accounts.cut
    assert all(times == 1 for times in found.values())
    assert found.keys() <= set(range(1, number + 1))
    assert told >= number


@given(st.binary(max_size=400), st.integers(0, 4000), st.booleans())
@SLOW
def test_garbage_in_the_middle(garbage, at, replaces):
    """
    Garbage inside a line costs that line at most.
    """
    one, two = json.dumps(short(1)), json.dumps(short(2))
    at = min(at, len(one))
    rest = one[at + len(garbage) :] if replaces else one[at:]
    data = b"\n" + one[:at].encode() + garbage + rest.encode() + f"\n{two}\n".encode()
    read = Read(data)

    assert counts(read).get(2) == 1
    assert set(counts(read)) <= {1, 2} or read.accounts.recovered


@given(st.binary(max_size=3000))
@SLOW
def test_any_bytes(data):
    """
    No input makes a traceback.
    """
    read = Read(data)

    assert len(read.tallies) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(event())), JSON))
@SLOW
def test_any_values(values):
    """
    Whatever the values are, an event is counted or told.
    """
    from async_guard.logs.render import as_json, html, markdown, plain, sarif
    from async_guard.logs.report import Problem, Report

    changed = {**event(1), **values, "event": "async_guard.hit"}
    read = Read((json.dumps(changed) + "\n").encode())

    assert len(read.tallies) + read.accounts.lost == 1
    report = Report([Problem(tally) for tally in read.tallies], read.accounts)
    for module in (plain, as_json, markdown, sarif, html):
        module.render(report).encode("utf-8")


OBJECTS = ("log", "code", "http", "service", "async_guard", "async_guard.retry", "extra")


@st.composite
def changed_events(draw):
    """Draw a line of ours with values, objects and bytes that we would not write."""
    keys = {**event(draw(st.integers(1, 2))), "event": draw(st.sampled_from([HIT, SUMMARY]))}
    changed = draw(st.dictionaries(st.sampled_from([*keys, *OBJECTS]), JSON, max_size=3))
    line = bytearray(json.dumps({**keys, **changed}, ensure_ascii=draw(st.booleans())).encode())
    for at, byte in draw(
        st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=2)
    ):
        line[at % len(line)] = byte
    return bytes(line)


@given(st.lists(changed_events(), min_size=1, max_size=3))
@SLOW
def test_short_cut(lines):
    """
    The short cut for the usual line finds what the long way finds, whatever is in the line.
    """
    data = b"\n".join([*lines, b""])
    short_cut = as_dict(Read(data))

    with mock.patch.object(reader, "plain_event", return_value=None):
        assert short_cut == as_dict(Read(data))
