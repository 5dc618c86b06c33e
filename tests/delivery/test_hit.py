"""``Hit``: a value that goes to JSON and comes back equal."""

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_guard.hit import LEVELS, Hit, new_hit_id
from async_guard.outcome import ALLOWED, HANDLED, RAISED, SWALLOWED
from tests.delivery.process import VALIDATOR

GOLDEN = Path(__file__).parent.parent / "golden" / "event-1.0.json"

texts = st.text(max_size=20)
frames = st.fixed_dictionaries(
    {
        "function": texts,
        "file": texts,
        "line": st.integers(0, 9999) | st.none(),
        "in_app": st.booleans(),
    }
)
STRATEGIES = {
    "str": texts,
    "str | None": texts | st.none(),
    "int": st.integers(0, 10**6),
    "int | None": st.integers(1, 10**6) | st.none(),
    "bool": st.booleans(),
    "bool | None": st.booleans() | st.none(),
    "float | None": st.floats(0, 1e6) | st.none(),
    "tuple[dict[str, Any], ...]": st.lists(frames, max_size=3).map(tuple),
}
hits = st.builds(Hit, **{each.name: STRATEGIES[each.type] for each in dataclasses.fields(Hit)})


@given(hits)
def test_round_trip(hit: Hit):
    """
    Every hit is the same after to_dict() and from_dict().
    """
    assert Hit.from_dict(hit.to_dict()) == hit


@given(hits)
def test_round_trip_by_json(hit: Hit):
    """
    Every hit is the same after it was a line of JSON.
    """
    assert Hit.from_dict(json.loads(json.dumps(hit.to_dict()))) == hit


@given(hits, hits)
def test_changed(hit: Hit, other: Hit):
    """
    changed() gives what dataclasses.replace() gives, and leaves the hit as it was.
    """
    before = dataclasses.replace(hit)
    changes = {"outcome": other.outcome, "frames": other.frames, "count": other.count}

    assert hit.changed(**changes) == dataclasses.replace(hit, **changes)
    assert hit == before


def test_hit_ids():
    """
    Every hit has 32 hexadecimal digits of its own.
    """
    ids = {new_hit_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)


@given(hits, st.dictionaries(texts, st.none() | st.integers() | texts))
def test_unknown_keys_are_ignored(hit: Hit, more):
    """
    Keys of a later version, and those of the envelope, do not disturb.
    """
    envelope = {"timestamp": "2026-01-01T00:00:00.000000Z", "level": "error", "event": "x"}

    assert Hit.from_dict({**more, **envelope, **hit.to_dict()}) == hit


def test_an_event_of_few_keys():
    """
    Keys that an older version did not write have their defaults.
    """
    assert Hit.from_dict({}) == Hit()
    assert Hit.from_dict({"async_guard.count": 3}) == Hit(count=3)


def test_keys_are_unique():
    """
    No two attributes share a key, and what is not known is left out.
    """
    keys = [each.metadata["key"] for each in dataclasses.fields(Hit)]

    assert len(set(keys)) == len(keys)
    assert None not in Hit().to_dict().values()


def test_keys_never_collide_with_those_of_logging():
    """
    No key is one that structlog's or logging's own processors would overwrite.
    """
    taken = {"filename", "lineno", "func_name", "module", "code", "exception", "request", "db"}
    taken |= {"http", "graphql", "exc_info", "args", "msg", "name", "process", "thread"}

    assert taken.isdisjoint(each.metadata["key"] for each in dataclasses.fields(Hit))


def test_frozen():
    """
    A hit is a value: no sink changes it for the next.
    """
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hit().count = 2


def test_to_dict_is_a_copy():
    """
    What a sink does to the dict is not done to the hit.
    """
    hit = Hit(frames=({"function": "f", "file": "f.py", "line": 1, "in_app": True},))
    event = hit.to_dict()
    event["async_guard.frames"].clear()
    event.clear()

    assert len(hit.frames) == 1
    assert hit.to_dict()


def test_pickled():
    """
    A hit survives pickling, so that a sink may hand it to another process.
    """
    hit = Hit.from_dict(json.loads(GOLDEN.read_text()))

    assert pickle.loads(pickle.dumps(hit)) == hit


def test_levels():
    """
    Every outcome has its level; an unknown one is a warning.
    """
    assert {outcome: Hit(outcome=outcome).level for outcome in LEVELS} == LEVELS
    assert {RAISED, SWALLOWED, ALLOWED, HANDLED} <= LEVELS.keys()
    assert Hit(outcome="of a later version").level == "warning"


# --- the golden file -----------------------------------------------------------------------------


def test_golden_event_is_valid():
    """
    The golden event of version 1.0 has every key of a hit, and fits the schema.
    """
    event = json.loads(GOLDEN.read_text())

    VALIDATOR.validate(event)
    keys = {each.metadata["key"] for each in dataclasses.fields(Hit)}
    assert event.keys() == keys | {"timestamp", "level", "event", "logger"}


def test_golden_event_reads_back_equal():
    """
    The golden event is the same after it was a hit.
    """
    event = json.loads(GOLDEN.read_text())
    envelope = {key: event[key] for key in ("timestamp", "level", "event", "logger")}

    assert {**envelope, **Hit.from_dict(event).to_dict()} == event


def test_schema_knows_every_key():
    """
    The schema describes every key of a hit, and nothing that is never written.
    """
    described = VALIDATOR.schema["properties"].keys()
    keys = {each.metadata["key"] for each in dataclasses.fields(Hit)}

    assert keys <= described
    others = {key for key in described - keys if not key.startswith("async_guard.")}
    runtime = {"process.runtime.name", "process.runtime.version"}  # of async_guard.started
    assert others == {"timestamp", "level", "event", "logger"} | runtime
