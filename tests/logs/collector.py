"""What the OpenTelemetry Collector makes of a log, as far as our configuration asks for it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# As the exporter creates it (exporter/clickhouseexporter/internal/sqltemplates/logs_table.sql),
# without indexes.
OTEL_LOGS = """
CREATE TABLE otel_logs (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimestampTime DateTime DEFAULT toDateTime(Timestamp),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TraceFlags UInt8,
    SeverityText LowCardinality(String) CODEC(ZSTD(1)),
    SeverityNumber UInt8,
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    Body String CODEC(ZSTD(1)),
    ResourceSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion LowCardinality(String) CODEC(ZSTD(1)),
    ScopeAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    EventName String CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(TimestampTime)
PRIMARY KEY (ServiceName, TimestampTime)
ORDER BY (ServiceName, TimestampTime, Timestamp)
"""
FIELD = re.compile(r'(body|attributes|resource)(?:\.(\w+)|\["([^"]+)"\])?')
Entry = dict[str, Any]


def collected(path: Path, configuration: dict[str, Any]) -> Iterator[Entry]:
    """Yield the rows of ``otel_logs`` for the lines of *path*."""
    operators = configuration["receivers"]["filelog"]["operators"]
    for line in path.read_text("utf-8").splitlines():
        entry: Entry = {
            "body": line,
            "attributes": {"log.file.name": path.name, "log.file.path": str(path)},
            "resource": {},
            "timestamp": "2030-01-01T00:00:00Z",  # when it was read
        }
        for operator in operators:
            if _applies(operator.get("if"), entry):
                _OPERATORS[operator["type"]](operator, entry)
        yield _row(entry)


def _applies(condition: str | None, entry: Entry) -> bool:
    if condition is None:
        return True
    if condition.endswith(" != nil"):
        return _get(entry, condition.removesuffix(" != nil")) is not None
    assert condition == 'body startsWith "{"'
    return entry["body"].startswith("{")


def _get(entry: Entry, field: str) -> Any:
    found = FIELD.fullmatch(field)
    assert found, field
    place = entry[found[1]]
    key = found[2] or found[3]
    return place.get(key) if key else place


def _parse_json(operator: Entry, entry: Entry) -> None:
    entry["attributes"] |= json.loads(entry["body"])
    assert operator["timestamp"]["layout"] == "2006-01-02T15:04:05Z07:00"
    entry["timestamp"] = _get(entry, operator["timestamp"]["parse_from"]) or entry["timestamp"]
    entry["severity"] = _get(entry, operator["severity"]["parse_from"]) or ""


def _parse_trace(operator: Entry, entry: Entry) -> None:
    for name in ("trace_id", "span_id"):
        entry[name] = _get(entry, operator[name]["parse_from"]) or ""


def _move(operator: Entry, entry: Entry) -> None:
    value = _get(entry, operator["from"])
    source, target = FIELD.fullmatch(operator["from"]), FIELD.fullmatch(operator["to"])
    del entry[source[1]][source[2] or source[3]]
    if target[2] or target[3]:
        entry[target[1]][target[2] or target[3]] = value
    else:
        entry[target[1]] = value


_OPERATORS = {"json_parser": _parse_json, "trace_parser": _parse_trace, "move": _move}


def _row(entry: Entry) -> Entry:
    return {
        "Timestamp": entry["timestamp"],
        "TraceId": entry.get("trace_id", ""),
        "SpanId": entry.get("span_id", ""),
        "SeverityText": entry.get("severity", ""),
        "ServiceName": entry["resource"].get("service.name", ""),
        "Body": _text(entry["body"]),
        "ResourceAttributes": {key: _text(value) for key, value in entry["resource"].items()},
        "LogAttributes": {key: _text(value) for key, value in entry["attributes"].items()},
    }


def _text(value: Any) -> str:
    """Return what the exporter writes for a value of any type."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True)
