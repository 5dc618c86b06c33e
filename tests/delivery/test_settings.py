"""``ASYNC_GUARD``: every mistake is one sentence that names the key and what was meant."""

import dataclasses
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from async_guard.settings import KNOWN, Settings, get_settings, problems

WRONG = {
    "ENABLED": (["yes", 1, None, "False"], "True or False"),
    "LOG_HANDLED": ([0, "no", []], "True or False"),
    "EXPOSE_IN_RESPONSE": (["FORCE", 1, None, ["force"]], "True, False or 'force'"),
    "BURST": ([0, -1, 1.0, "5", None, True], "a whole number, at least 1"),
    "MAX_FINGERPRINTS": ([0, 10.5, "many", False], "a whole number, at least 1"),
    "QUEUE_SIZE": ([0, -10, 1e3, [], True], "a whole number, at least 1"),
    "N_PLUS_ONE_THRESHOLD": ([-1, 2.5, "5", None, False], "a whole number, at least 0"),
    "SUMMARY_INTERVAL_S": (
        [0, 0.05, -60, "60", None, True, float("nan")],
        "a number, at least 0.1",
    ),
    "LOG_FILE": ([1, "", True, b"hits.jsonl", ["hits.jsonl"]], "a path or None"),
    "SERVICE_NAME": ([1, b"shop", ["shop"]], "a text or None"),
    "SERVICE_VERSION": ([1.0, b"1"], "a text or None"),
    "ENVIRONMENT": ([1, ("prod",)], "a text or None"),
    "ALLOWLIST": (["app.py", None, [1], {"a": 1}, [b"app.py"]], "a list of texts"),
    "SINKS": (["app.sink", [print], {"app.sink"}, None], "a list of texts"),
    "PROJECT_PATHS": (["/app", [1], None, Path("/app")], "a list of texts"),
    "LIBRARY_PATHS": (["/app", [None], 5], "a list of texts"),
    "AUTO_RETRY": (["on", None, True, ["rerun"]], "one of 'off', 'rerun', 'resume'"),
    "RETRY_ALLOW": (["*", None, [1]], "a list of texts"),
    "RETRY_DENY": (["*", None, [1]], "a list of texts"),
    "RETRY_BATCHING": ([0, "yes", None], "True or False"),
    "RETRY_HOP_SIZE": ([0, 1.5, None], "a whole number, at least 1"),
    "RETRY_QUEUE_SIZE": ([-1, 1.5, True], "a whole number, at least 0"),
    "RETRY_ROUTE_S": ([-1, "300", None], "a number, at least 0"),
    "RETRY_MAX_FAILURES": ([0, 2.5], "a whole number, at least 1"),
    "RETRY_BUDGET_S": ([-0.1, "1"], "a number, at least 0"),
    "RETRY_RESET_S": ([-1, None], "a number, at least 0"),
}
FINE = {
    "AUTO_RETRY": ["off", "rerun", "resume"],
    "RETRY_ALLOW": [[], ["UserType.*"]],
    "RETRY_DENY": [[], ("Query.report",)],
    "RETRY_BATCHING": [True, False],
    "RETRY_HOP_SIZE": [1, 500],
    "RETRY_QUEUE_SIZE": [0, 10],
    "RETRY_ROUTE_S": [0, 1.5],
    "RETRY_MAX_FAILURES": [1],
    "RETRY_BUDGET_S": [0, 0.5],
    "RETRY_RESET_S": [0, 10],
    "ENABLED": [True, False],
    "LOG_HANDLED": [True, False],
    "EXPOSE_IN_RESPONSE": [True, False, "force"],
    "BURST": [1, 10**9],
    "MAX_FINGERPRINTS": [1],
    "QUEUE_SIZE": [1],
    "N_PLUS_ONE_THRESHOLD": [0, 5],
    "SUMMARY_INTERVAL_S": [0.1, 1, 60.0, float("inf")],
    "LOG_FILE": [None, "hits.jsonl", Path("/var/log/hits.jsonl")],
    "SERVICE_NAME": [None, "shop"],
    "SERVICE_VERSION": [None, "1.0"],
    "ENVIRONMENT": [None, "prod"],
    "ALLOWLIST": [[], ["app/*.py"], ("app.Book.author",)],
    "SINKS": [[], ["app.sinks.send"]],
    "PROJECT_PATHS": [["/app"], [Path("/app")]],
    "LIBRARY_PATHS": [[], ("/vendor",)],
}


@pytest.fixture(autouse=True)
def asked_again():
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def cases(table):
    return [(key, value) for key, values in table.items() for value in values]


def test_every_key_is_tried():
    """
    The tables below know every key there is.
    """
    assert WRONG.keys() == FINE.keys() == KNOWN


@pytest.mark.parametrize(
    "key, value, wanted",
    [(key, value, wanted) for key, (values, wanted) in WRONG.items() for value in values],
)
def test_wrong_value(key, value, wanted):
    """
    A wrong value is one sentence with the key, what it takes, and what was found.
    """
    assert problems({key: value}) == [f"ASYNC_GUARD[{key!r}] must be {wanted}, not {value!r}."]


@pytest.mark.parametrize("key, value", cases(FINE))
def test_right_value(key, value):
    """
    A right value is taken over; lists become tuples of texts, paths become text.
    """
    with override_settings(ASYNC_GUARD={key: value}):
        found = getattr(get_settings(), key)

    if isinstance(value, list | tuple):
        value = tuple(str(item) for item in value)
    assert problems({key: value}) == []
    assert found == (str(value) if isinstance(value, Path) else value)


@pytest.mark.parametrize(
    "key, meant",
    [
        ("BRUST", "BURST"),
        ("burst", "BURST"),
        ("LOGFILE", "LOG_FILE"),
        ("ALLOW_LIST", "ALLOWLIST"),
        ("SUMMARY_INTERVAL", "SUMMARY_INTERVAL_S"),
        ("SINK", "SINKS"),
        ("ENABLE", "ENABLED"),
        ("EXPOSE_IN_RESPONSES", "EXPOSE_IN_RESPONSE"),
    ],
)
def test_unknown_key_with_a_neighbour(key, meant):
    """
    A typo is an error that names its nearest neighbour.
    """
    assert problems({key: 1}) == [f"ASYNC_GUARD has no key {key!r}. Did you mean {meant!r}?"]


@pytest.mark.parametrize("key", ["COLOUR", 1, None, ("BURST",), ""])
def test_unknown_key_without_a_neighbour(key):
    """
    A key that is like no other is named alone, whatever it is.
    """
    [sentence] = problems({key: 1})

    assert sentence.startswith(f"ASYNC_GUARD has no key {key!r}.")


@pytest.mark.parametrize("raw", [None, [], "on", True, 1])
def test_no_dict(raw):
    """
    Anything but a dict is one sentence, too.
    """
    assert problems(raw) == [f"ASYNC_GUARD must be a dict, not {type(raw).__name__}."]


def test_all_problems_at_once():
    """
    Every problem is in the error, a sentence each.
    """
    raw = {"BRUST": 1, "QUEUE_SIZE": 0}

    with override_settings(ASYNC_GUARD=raw), pytest.raises(ImproperlyConfigured) as caught:
        get_settings()

    assert str(caught.value) == " ".join(problems(raw))
    assert len(problems(raw)) == 2


@given(st.dictionaries(st.text() | st.integers() | st.sampled_from(sorted(KNOWN)), st.none()))
def test_any_dict(raw):
    """
    Whatever the dict holds, there are sentences and no exception.
    """
    assert all(sentence.endswith((".", "?")) for sentence in problems(raw))


@given(
    st.sampled_from(sorted(KNOWN)),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_any_value(key, value):
    """
    Whatever a key holds, it is either fine, and then taken over, or one sentence.
    """
    found = problems({key: value})

    if found:
        assert len(found) == 1 and repr(key) in found[0]
    else:
        with override_settings(ASYNC_GUARD={key: value}):
            assert isinstance(get_settings(), Settings)


def test_without_the_setting(settings):
    """
    A project without ASYNC_GUARD gets the defaults.
    """
    del settings.ASYNC_GUARD
    get_settings.cache_clear()

    assert get_settings() == Settings()


def test_override_settings():
    """
    override_settings() changes them for the block, also nested, and also to wrong ones.
    """
    with override_settings(ASYNC_GUARD={"BURST": 7}):
        assert get_settings().BURST == 7
        with override_settings(ASYNC_GUARD={"BURST": 8}):
            assert get_settings().BURST == 8
        with override_settings(ASYNC_GUARD={"BURST": 0}), pytest.raises(ImproperlyConfigured):
            get_settings()
        assert get_settings().BURST == 7

    assert get_settings() == Settings(ENABLED=False)


def test_frozen():
    """
    Settings are a value: nobody changes them on the way.
    """
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_settings().BURST = 1


def test_service_name_of_the_environment(monkeypatch):
    """
    OpenTelemetry's variable names the service unless the settings do.
    """
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")

    with override_settings(ASYNC_GUARD={}):
        assert get_settings().SERVICE_NAME == "shop"
    with override_settings(ASYNC_GUARD={"SERVICE_NAME": None}):
        assert get_settings().SERVICE_NAME is None
