"""What others wrap around the events, and how they change them."""

import json
import time
from typing import Any

import pytest

from async_guard.logs.render import as_json, html, plain
from async_guard.logs.report import Problem, make_report
from tests.logs.making import FOREIGN, counts, event, line, nested, read_bytes, summary


def docker(text: str, stream: str = "stdout") -> str:
    return json.dumps({"log": text, "stream": stream, "time": "2026-02-01T00:00:00.1Z"})


def otlp_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": otlp_pairs(value)}}
    return {"stringValue": str(value)}


def otlp_pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": otlp_value(value)} for key, value in values.items()]


def otlp(*records: dict[str, Any]) -> str:
    resource = {"attributes": otlp_pairs({"service.name": "shop", "host.name": "a"})}
    scope = {"scope": {"name": "x"}, "logRecords": list(records)}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]})


def otlp_record(number: int) -> dict[str, Any]:
    keys = {key: value for key, value in event(number).items() if key not in ("timestamp", "event")}
    return {
        "timeUnixNano": "1769904000000000000",
        "severityText": "ERROR",
        "body": {"stringValue": "async_guard.hit"},
        "attributes": otlp_pairs(keys),
    }


def renamed(number: int, key: str) -> str:
    found = event(number)
    name = found.pop("event")
    if key == "message":
        found["async_guard.message"] = found.pop("message")
    return json.dumps({**found, key: name})


def readable(number: int) -> str:
    found = event(number)
    return (
        f"ERROR 2026-02-01 async_guard.hit: {found['message']} "
        f"[outcome=raised rule=AG101 fingerprint={number:016x} count=1]"
    )


def python_json_logger(number: int) -> str:
    found = {key: value for key, value in event(number).items() if key not in ("event", "message")}
    return json.dumps({"message": readable(number)[len("ERROR 2026-02-01 ") :], **found})


ENVELOPES = {
    "docker json-file": lambda n: docker(line(n) + "\n"),
    "fluent-bit": lambda n: json.dumps(
        {"log": line(n), "stream": "stdout", "kubernetes": {"a": 1}}
    ),
    "compose": lambda n: f"web-1  | {line(n)}",
    "compose with colour": lambda n: f"\x1b[36mweb-1  |\x1b[0m {line(n)}",
    "CRI": lambda n: f"2026-02-01T00:00:00.123456789Z stdout F {line(n)}",
    "CRI with a tag": lambda n: f"2026-02-01T00:00:00.123456789+01:00 stderr F:x {line(n)}",
    "journald": lambda n: json.dumps(
        {"__REALTIME_TIMESTAMP": "1769904000000000", "_PID": "1", "MESSAGE": line(n)}
    ),
    "journald bytes": lambda n: json.dumps(
        {"__REALTIME_TIMESTAMP": "1769904000000000", "MESSAGE": list(line(n).encode())}
    ),
    "journald bytes first": lambda n: json.dumps(
        {"MESSAGE": list(line(n).encode()), "__REALTIME_TIMESTAMP": "1769904000000000"},
        separators=(",", ":"),
    ),
    "CloudWatch subscription": lambda n: json.dumps(
        {
            "messageType": "DATA_MESSAGE",
            "logGroup": "g",
            "logEvents": [{"id": "1", "timestamp": 1769904000000, "message": line(n)}],
        }
    ),
    "CloudWatch event": lambda n: json.dumps({"timestamp": 1769904000000, "message": line(n)}),
    "CloudWatch export": lambda n: f"2026-02-01T00:00:00.000Z {line(n)}",
    "CloudWatch pretty": lambda n: f'            "message": {json.dumps(line(n))},',
    "GCP": lambda n: json.dumps(
        {"insertId": "x", "timestamp": "2026-02-01T00:00:00Z", "jsonPayload": event(n)}
    ),
    "GCP nested": lambda n: json.dumps({"insertId": "x", "jsonPayload": nested(event(n))}),
    "GCP text": lambda n: json.dumps({"insertId": "x", "textPayload": line(n)}),
    "OTLP": lambda n: otlp(otlp_record(n)),
    "OTLP body": lambda n: otlp({"body": {"stringValue": line(n)}}),
    "OTLP body with attributes": lambda n: otlp(
        {"body": {"stringValue": line(n)}, "attributes": otlp_pairs({"log.file.name": "x"})}
    ),
    "OTLP map body": lambda n: otlp({"body": otlp_value(event(n)), "attributes": []}),
    "OTLP event name": lambda n: otlp(
        {**otlp_record(n), "body": {}, "eventName": "async_guard.hit"}
    ),
    "OpenTelemetry console": lambda n: json.dumps(
        {"body": "async_guard.hit", "attributes": {**event(n), "event": "x"}, "resource": {}}
    ),
    "nested": lambda n: json.dumps(nested(event(n))),
    "renamed": lambda n: renamed(n, "msg"),
    "renamed to message": lambda n: renamed(n, "message"),
    "ECS": lambda n: json.dumps({**nested(event(n)), "event": {"action": "async_guard.hit"}}),
    "name taken out": lambda n: json.dumps({**event(n), "event": None}),
    "prefix": lambda n: f"[INFO] {{worker 3}} app: {line(n)}",
    "a list": lambda n: json.dumps([json.loads(FOREIGN), event(n)]),
    "docker in CRI": lambda n: f"2026-02-01T00:00:00Z stdout F {docker(line(n) + chr(10))}",
    "for people": readable,
    "for people in docker": lambda n: docker(readable(n) + "\n"),
    "python-json-logger": python_json_logger,
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes(tmp_path, name):
    """
    Every envelope is unwrapped, and none of it is damage.
    """
    wrap = ENVELOPES[name]
    data = "\n".join((FOREIGN, wrap(1), wrap(2), FOREIGN, wrap(1), ""))
    result = read_bytes(tmp_path, data.encode())

    assert counts(result) == {1: 2, 2: 1}
    assert (result.accounts.lost, result.accounts.cut, result.accounts.recovered) == (0, 0, 0)
    assert result.accounts.foreign == 2
    hit = next(iter(result.tallies)).hit
    assert (hit.path, hit.line) == ("users/types.py", 24)
    assert hit.outcome == "raised"
    if "for people" not in name:
        assert hit.frames[0]["line"] == 24
        assert hit.operation_name == "Users"
        assert hit.kind == "sync_orm"


@pytest.mark.parametrize("text", [line(1), readable(1)], ids=["JSON", "for people"])
@pytest.mark.parametrize("prefix", ["", "web-1: "])
def test_copy_in_an_envelope(tmp_path, text, prefix):
    """
    A shipper that keeps the original beside the message tells of one hit; a batch of two, of two.
    """
    copied = {"message": text, "event": {"original": f"{prefix}{text}\n"}}
    batch = {"logEvents": [{"message": text}, {"message": text}]}

    assert counts(read_bytes(tmp_path, json.dumps(copied).encode())) == {1: 1}
    assert counts(read_bytes(tmp_path, json.dumps(batch).encode())) == {1: 2}


@pytest.mark.parametrize("text", [line(1), summary(1, 5)], ids=["hit", "summary"])
@pytest.mark.parametrize("shape", [lambda keys: keys, nested], ids=["flat", "nested"])
@pytest.mark.parametrize("is_first", [True, False], ids=["text first", "object first"])
def test_parsed_copy_in_an_envelope(tmp_path, text, shape, is_first):
    """
    Nor does a shipper that keeps the text beside what it parsed tell of two, in whatever order.
    """
    keys = json.loads(text)
    parsed = {"log_processed": shape(keys)}
    kept = {"log": f"web-1: {text}\n"}
    copied = {**kept, **parsed} if is_first else {**parsed, **kept}
    result = read_bytes(tmp_path, json.dumps({"stream": "stdout", **copied}).encode())

    assert counts(result) == {1: keys["async_guard.count"]}
    assert (result.accounts.lost, result.accounts.recovered) == (0, 0)


def test_other_events_in_an_envelope(tmp_path):
    """
    What differs is no copy, however much of it one object holds.
    """
    hits = {f"a{n}": line(1 + n % 3, hit_id=f"{n:032x}") for n in range(3000)}
    summaries = {"a": json.loads(summary(4, 1)), "b": summary(4, 2), "c": "{async_guard.hit"}
    data = "\n".join(map(json.dumps, (hits, summaries)))
    started = time.monotonic()

    assert counts(read_bytes(tmp_path, data.encode())) == {1: 1000, 2: 1000, 3: 1000, 4: 3}
    assert time.monotonic() - started < 5


def test_envelopes_in_one_file(tmp_path):
    """
    One file may mix them all.
    """
    lines = [wrap(n) for n, wrap in enumerate(ENVELOPES.values(), 1)]
    data = "\n".join(sorted(lines, key=lambda line: "REALTIME" not in line))
    result = read_bytes(tmp_path, data.encode())

    assert counts(result) == dict.fromkeys(range(1, len(ENVELOPES) + 1), 1)


@pytest.mark.parametrize("size", [100, 700, 1500])
@pytest.mark.parametrize("between", [[], ["2026-02-01T00:00:01Z stderr F something else"]])
def test_cri_pieces(tmp_path, size, between):
    """
    What a container runtime cut into pieces is put together, whatever comes between.
    """
    text = line(1)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    found = ["2026-02-01T00:00:00Z stdout F nothing"]
    for piece in pieces[:-1]:
        found += [f"2026-02-01T00:00:00Z stdout P {piece}", *between]
    found += [f"2026-02-01T00:00:00Z stdout F {pieces[-1]}"]
    found += [f"2026-02-01T00:00:00Z stdout F {line(2)}"]
    result = read_bytes(tmp_path, "\n".join([*found, ""]).encode())

    assert counts(result) == {1: 1, 2: 1}
    assert (result.accounts.lost, result.accounts.recovered) == (0, 0)


@pytest.mark.parametrize("size", [200, 700, 1500])
def test_docker_pieces(tmp_path, size):
    """
    docker cuts long lines, too; only the last piece ends in a line's end.
    """
    text = line(1) + "\n"
    pieces = [docker(text[i : i + size]) for i in range(0, len(text), size)]
    pieces.insert(1, docker("other\n", "stderr"))
    data = "\n".join([docker("before\n"), *pieces, docker(line(2) + "\n"), ""])
    result = read_bytes(tmp_path, data.encode())

    assert counts(result) == {1: 1, 2: 1}
    assert (result.accounts.lost, result.accounts.recovered) == (0, 0)


def test_pieces_without_the_last(tmp_path):
    """
    When the last piece never comes the event is lost, and told; the next one is read.
    """
    text = line(1)
    data = [
        f"2026-02-01T00:00:00Z stdout P {text[:500]}",
        f"2026-02-01T00:00:00Z stderr F {line(2)}",
    ]
    result = read_bytes(tmp_path, "\n".join([*data, ""]).encode())

    assert counts(result) == {2: 1}
    assert result.accounts.lost == 1
    assert result.accounts.first_lost[0].offset == 0


def test_cut_in_an_envelope(tmp_path):
    """
    A cut event in an envelope is lost or recovered, never passed over.
    """
    whole = docker(line(1) + "\n")
    early, late = whole[:400], whole[: whole.index("async_guard.frames")]
    result = read_bytes(tmp_path, "\n".join([early, docker(line(2) + "\n"), late]).encode())

    assert counts(result) == {1: 1, 2: 1}
    assert (result.accounts.recovered, result.accounts.lost) == (1, 1)


def test_time_of_the_envelope(tmp_path):
    """
    An event without a time of its own has that of its envelope.
    """
    bare = {key: value for key, value in event(1).items() if key != "timestamp"}
    data = "\n".join(
        [
            docker(json.dumps(bare) + "\n"),
            json.dumps({"timestamp": 1769904000000, "message": json.dumps(bare)}),
            f"2026-02-01T00:00:00.1Z stdout F {json.dumps(bare)}",
        ]
    )
    [tally] = read_bytes(tmp_path, data.encode()).tallies

    assert tally.first_seen == 1769904000.0
    assert tally.last_seen == 1769904000.1


@pytest.mark.parametrize(
    "when",
    [
        *("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00", "9999-12-31"),
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"),
    ],
)
def test_time_that_cannot_be(tmp_path, when):
    """
    A time that no log can have is none: that of the envelope counts, and no command breaks.
    """
    odd = json.dumps(event(1) | {"timestamp": when})
    data = f"{odd}\n{docker(odd + chr(10))}\n"
    result = read_bytes(tmp_path, data.encode())

    [tally] = result.tallies
    assert (tally.count, tally.first_seen, tally.last_seen) == (2, 1769904000.1, 1769904000.1)
    assert tally.trend.points() == [(1769904000, 1)]
    for module in (plain, as_json, html):
        assert "2026-02-01" in module.render(make_report(result))


def test_resource_of_otlp(tmp_path):
    """
    What OTLP says once for many records belongs to each.
    """
    record = otlp_record(1)
    record["attributes"] = [each for each in record["attributes"] if each["key"] != "service.name"]
    [tally] = read_bytes(tmp_path, otlp(record, record).encode()).tallies

    assert tally.names["services"] == {"shop": 2}


@pytest.mark.parametrize("indent", [1, 2, 4, "\t"])
@pytest.mark.parametrize("shape", [event, lambda number: nested(event(number))])
def test_printed_over_many_lines(tmp_path, indent, shape):
    """
    An answer of gcloud or aws, printed for people, is read as well.
    """
    entries = [{"insertId": "x", "jsonPayload": shape(n), "severity": "ERROR"} for n in (1, 2)]
    aws = {"events": [{"logStreamName": "s", "message": line(3), "timestamp": 1769904000000}]}
    data = "\n".join([json.dumps(each, indent=indent) for each in (entries, aws)] + [line(4), ""])
    result = read_bytes(tmp_path, data.encode())

    assert counts(result) == {1: 1, 2: 1, 3: 1, 4: 1}
    assert (result.accounts.lost, result.accounts.recovered) == (0, 0)


@pytest.mark.parametrize("sort_keys", [False, True])
@pytest.mark.parametrize("indent", [1, 4, "\t"])
def test_time_that_stands_first(tmp_path, indent, sort_keys):
    """
    What stands before the first key of ours belongs to the event as well, in whatever block it is.
    """
    events = [event(n) | {"a": {"b": ["{", n]}, "pad": "x" * (n * 37 % 997)} for n in range(1, 400)]
    data = "\n".join(json.dumps(each, indent=indent, sort_keys=sort_keys) for each in events)
    result = read_bytes(tmp_path, data.encode())

    assert len(result.tallies) == 399
    assert {tally.first_seen for tally in result.tallies} == {1769862896.789012}
    assert (result.accounts.lost, result.accounts.recovered) == (0, 0)


def test_what_stands_before_is_damaged(tmp_path):
    """
    Where that is no JSON the event is read without it.
    """
    printed = json.dumps(event(1), indent=2).replace('"timestamp":', '"timestamp"')
    [tally] = read_bytes(tmp_path, printed.encode()).tallies

    assert (tally.count, tally.first_seen) == (1, None)


def test_words_of_a_line_for_people(tmp_path):
    """
    A line for people says by whom what was done, and what to write instead.
    """
    [tally] = read_bytes(tmp_path, readable(1).encode()).tallies
    problem = Problem(tally)

    assert (problem.subject, problem.place, problem.function, problem.advice) == (
        "read User.profile",
        "users/types.py:24",
        "UserType.profile",
        event(1)["message"].partition("(users/types.py:24). ")[2],
    )
