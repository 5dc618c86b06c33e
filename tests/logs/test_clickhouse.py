"""The report's SQL: DuckDB, ClickHouse and our own reader say the same."""

import importlib.util
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_guard import cli
from async_guard.hit import LEVELS, Hit
from contrib.clickhouse import generate
from tests.logs.collector import OTEL_LOGS, collected
from tests.logs.making import FOREIGN, GOLDEN, event, line, summary

FOLDER = Path(generate.__file__).parent
DOCS = FOLDER.parent.parent / "docs" / "clickhouse.md"
needs_clickhouse = pytest.mark.skipif(
    importlib.util.find_spec("chdb") is None, reason="chdb has no wheel for this platform"
)
RETRY = {"retry__strategy": "rerun", "retry__duration_ms": 2.5, "retry__queries": 3}
# In a process of its own: ClickHouse brings threads, signal handlers and an allocator.
ASK = """
import json, sys
from chdb.session import Session
session = Session()
for statement in json.load(sys.stdin):
    answer = session.query(statement, "JSONEachRow")
print(answer)
"""


def sql(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def clickhouse(*statements: str) -> list[dict[str, Any]]:
    """Return the rows that the last of *statements* answers with."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(statements), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(row) for row in done.stdout.splitlines() if row]


def inserted(table: str, rows: str) -> str:
    settings = "date_time_input_format = 'best_effort'"
    return f"INSERT INTO {table} SETTINGS {settings} FORMAT JSONEachRow {rows}"


def duckdb(path: str, capsys) -> list[dict[str, Any]]:
    """Return the report by ``async-guard sql``."""
    assert cli.main(["sql", sql("report.duckdb.sql"), path, "--format", "json"]) == 0
    return [json.loads(row) for row in capsys.readouterr().out.splitlines()]


def reported(path: str, capsys) -> list[dict[str, Any]]:
    """Return what ``report`` says, in the columns of the SQL."""
    assert cli.main(["report", "--format", "json", path]) == 0
    return [_as_row(problem) for problem in json.loads(capsys.readouterr().out)["problems"]]


def _as_row(problem: dict[str, Any]) -> dict[str, Any]:
    retry = problem["retry"]["ms"] or {}
    same = ("fingerprint", "count", "kind", "access", "relation", "owner", "owner_package")
    site = ("path", "line", "function", "text")
    return {
        **{name: problem[name] for name in (*same, "rule", "advice", "message", "docs")},
        **{name: problem["call_site"][name] for name in site},
        **{name: problem["outcomes"].pop(name, 0) for name in LEVELS},
        "other": sum(problem["outcomes"].values()),
        **{name: sorted(problem[name]) for name in generate.NAMED},
        "first_seen": problem["first_seen"],
        "last_seen": problem["last_seen"],
        "retries": retry.get("number", 0),
        "retry_ms_mean": retry.get("mean"),
        "retry_ms_max": retry.get("max"),
        "retry_queries": problem["retry"]["queries"],
    }


def plain(rows: list[dict[str, Any]], but: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return *rows* with times to the second, as the report has them."""
    return [
        {name: _second(name, value) for name, value in row.items() if name not in but}
        for row in rows
    ]


def _second(name: str, value: Any) -> Any:
    if value is None or not name.endswith("_seen"):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=None, microsecond=0)


def at(time: str, number: int, without: str = "", **changed: Any) -> str:
    """Return a hit of that time in 2026, without one of its keys."""
    found = event(number, **changed) | {"timestamp": f"2026-{time}Z"}
    found.pop(without, None)
    return json.dumps(found)


ONLY_IN_SQL = ("orm_model", "orm_operation")


@pytest.fixture
def log(tmp_path) -> str:
    """Return a log with every sort of event, in times that are all different."""
    late = summary(5).replace("2026-01-31T12:34:56", "2026-02-01T01:02:03").replace("Use ", "Do ")
    lines = [
        at("01-31T12:00:00.123456", 1, advice='It\'s \\ "quoted"\tand — öäü'),
        at("01-31T12:00:01.654321", 1, outcome="swallowed", count=3, advice='It\'s \\ "q"\t— ö'),
        at("01-31T11:00:00", 1, graphql__operation__name="Login"),
        at("02-02T00:00:00", 1, without="async_guard.frames", advice="Less."),
        summary(1, 40),
        at("01-31T12:00:02", 2, outcome="retried", **RETRY, advice="Newer."),
        at("01-31T12:00:01", 2, outcome="retry_failed", **RETRY | {"retry__duration_ms": 7.5}),
        at("01-31T12:00:03", 3, outcome="something_new", count=45, http__route=None),
        at("01-31T12:00:02", 3, without="async_guard.outcome"),
        at("01-31T12:00:03", 5, without="async_guard.frames"),
        late,
        FOREIGN,
        json.dumps({"event": "async_guard.summary", "async_guard.count": 9}),
    ]
    path = tmp_path / "app.log"
    path.write_text("".join(f"{each}\n" for each in lines))
    return str(path)


def test_generated():
    """
    The .sql files are what generate.py writes.
    """
    assert {name: sql(name) for name in generate.files()} == generate.files()


def test_dialects():
    """
    The report for DuckDB and the one for ClickHouse differ in a table's name and two functions.
    """
    words = {"hits": "async_guard_hits", "arg_max": "argMax", "array_sort": "arraySort"}
    translated = re.sub(
        r"\b(hits|arg_max|array_sort)\b(?=\(|\n)",
        lambda word: words[word[1]],
        sql("report.duckdb.sql"),
    )

    assert translated == sql("report.sql")


def test_duckdb(log, capsys):
    """
    The report's SQL finds in DuckDB what the report says.
    """
    rows = duckdb(log, capsys)

    assert [(int(row["fingerprint"], 16), row["count"]) for row in rows] == [
        *((1, 46), (3, 46), (5, 11), (2, 2))
    ]
    assert plain(rows, but=ONLY_IN_SQL) == plain(reported(log, capsys))


@needs_clickhouse
def test_table(log, capsys):
    """
    ClickHouse answers for exported hits what DuckDB does, row by row; damaged lines included.
    """
    with open(log, "ab") as file:
        text = line(1, count=2)
        file.write(text[: text.index('"async_guard.frames"')].encode() + b"\n\0\xff")
        file.write(at("", 4, without="timestamp").encode())
    assert cli.main(["export", "--to", "jsonl", log]) == 0
    exported = capsys.readouterr().out
    rows = clickhouse(sql("table.sql"), inserted("async_guard_hits", exported), sql("report.sql"))

    assert len(rows) == 5
    assert plain(rows) == plain(duckdb(log, capsys))
    assert plain(rows, but=ONLY_IN_SQL) == plain(reported(log, capsys))


@needs_clickhouse
@pytest.mark.parametrize("way", ["view", "copy"])
def test_collector(log, capsys, way):
    """
    What the Collector writes into otel_logs gives the same report, by the view and by the copy.
    """
    records = "\n".join(map(json.dumps, collected(Path(log), configuration())))
    prepared = {
        "view": [sql("otel_view.sql"), inserted("otel_logs", records)],
        "copy": [sql("table.sql"), sql("otel_copy.sql"), inserted("otel_logs", records)],
    }
    rows = clickhouse(OTEL_LOGS, *prepared[way], sql("report.sql"))

    assert len(rows) == 4
    assert plain(rows) == plain(duckdb(log, capsys))


@needs_clickhouse
def test_every_column(tmp_path, capsys):
    """
    Each attribute of a hit arrives, by either way, with its value and its type.
    """
    path = tmp_path / "app.log"
    path.write_text(GOLDEN.read_text("utf-8").replace("\n", " ") + "\n")
    assert cli.main(["export", "--to", "jsonl", str(path)]) == 0
    exported = capsys.readouterr().out
    [record] = collected(path, configuration())
    for key in ("trace_id", "span_id"):  # over OTLP the record has them, and no attribute
        del record["LogAttributes"][key]
    ask = "SELECT * FROM async_guard_hits"
    [table] = clickhouse(sql("table.sql"), inserted("async_guard_hits", exported), ask)
    [view] = clickhouse(
        OTEL_LOGS, sql("otel_view.sql"), inserted("otel_logs", json.dumps(record)), ask
    )
    for row in (table, view):
        row["frames"] = json.loads(row["frames"])
    expected = json.loads(exported)

    assert table == view
    assert {**table, "timestamp": None} == {**expected, "timestamp": None}
    assert table["timestamp"].replace(" ", "T") + "Z" == expected["timestamp"]


# --- the Collector -------------------------------------------------------------------------------


def configuration() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "otelcol.yaml").read_text("utf-8"))


def test_configuration():
    """
    The Collector's configuration names only keys that events have, and uses all that it declares.
    """
    text = (FOLDER / "otelcol.yaml").read_text("utf-8")
    named = {a or b for a, b in re.findall(r'attributes(?:\.(\w+)|\["([^"]+)"\])', text)}
    found = configuration()
    pipeline = found["service"]["pipelines"]["logs"]

    assert named and named <= {*event(), *Hit(**dict.fromkeys(("trace_flags",), "01")).to_dict()}
    assert found["service"]["extensions"] == list(found["extensions"])
    assert pipeline == {
        "receivers": list(found["receivers"]),
        "exporters": list(found["exporters"]),
    }


def test_docs():
    """
    The page has the configuration as it is tested, and names each file.
    """
    page = DOCS.read_text("utf-8")

    assert (FOLDER / "otelcol.yaml").read_text("utf-8") in page
    assert [name for name in generate.files() if name not in page] == []
