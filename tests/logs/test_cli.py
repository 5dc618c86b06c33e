"""The command line: what it prints, where, and its exit status."""

import gzip
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from async_guard import cli
from async_guard.commands.inputs import KNOWN
from tests.counted import counted
from tests.delivery.process import SCHEMA
from tests.logs.making import FOREIGN, event, line, summary

NO_SETTINGS = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
COMMAND = [sys.executable, "-m", "async_guard"]
MANAGE = [sys.executable, "-m", "django", "async_guard"]


@pytest.fixture
def log(tmp_path) -> str:
    path = tmp_path / "app.log"
    lines = [line(1), FOREIGN, summary(1, 40), line(2, outcome="swallowed"), line(3, count=2)]
    path.write_text("\n".join([*lines, ""]))
    return str(path)


def run(*arguments: str, capsys) -> tuple[int, str, str]:
    try:
        status = cli.main(arguments)
    except SystemExit as stopped:  # argparse
        status = int(stopped.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def problems(text: str) -> dict[int, int]:
    return {int(each["fingerprint"], 16): each["count"] for each in json.loads(text)["problems"]}


def test_needs_no_settings(log):
    """
    The console script needs neither settings nor the project, and imports neither.
    """
    code = (
        "import sys; from async_guard.cli import main; status = main(sys.argv[1:]);"
        "assert 'django.conf' not in sys.modules and 'rich' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", log], env=NO_SETTINGS, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "users.User.profile" in done.stdout


def test_report(log, capsys):
    """
    The report ranks the problems and ends with what became of the input.
    """
    status, out, err = run("report", log, capsys=capsys)

    assert (status, err) == (0, "")
    assert re.findall(r"^([0-9a-f]{16}) +(\d+)", out, re.M) == [
        (f"{1:016x}", "41"),
        (f"{3:016x}", "2"),
        (f"{2:016x}", "1"),
    ]
    assert out.endswith("5 lines read in 1 file: 4 ours, 1 foreign; 0 events recovered, 0 lost.\n")
    assert max(map(len, out.splitlines())) <= 80


def test_management_command(log):
    """
    ``manage.py async_guard`` does the same as the console script.
    """
    out = io.StringIO()
    call_command("async_guard", "report", log, "--format", "json", stdout=out)

    assert problems(out.getvalue()) == {1: 41, 2: 1, 3: 2}
    with pytest.raises(CommandError, match="There is no log at /nope") as raised:
        call_command("async_guard", "report", "/nope")
    assert raised.value.returncode == 2
    with pytest.raises(SystemExit, match="1"):
        call_command("async_guard", "report", log, "--fail-on", "any", stdout=out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "/nope"],
        ["report", "/nope/*.log"],
        ["report", "{folder}/empty"],
        ["report", "{log}", "--since", "yesterday"],
        ["report", "{log}", "--fail-on", "new"],
        ["report", "{log}", "--baseline", "/nope"],
        ["report", "{log}", "--baseline", "{log}"],
        ["report", "{log}", "-o", "/nope/x.html"],
        ["report", "{log}", "--since", ""],
        ["report", "{log}", "--since", "0001-01-01"],
        ["report", "{log}", "--since", "2026-02-01", "--until", "2026-01-01"],
        ["report", "{log}", "--kind", "sync"],
        ["report", "{log}", "--outcome", "swalowed"],
        ["report", "{log}", "--owner", "me"],
        ["report", ""],
        ["report", "a\0b"],
        ["explain", "ffff", "{log}"],
        ["explain", "0000", "{log}"],
        ["explain", "", "{log}"],
        ["follow", "{folder}"],
        ["follow", "{log}", "-n", "x"],
        ["follow", "{log}", "-n", "²"],
        ["follow", ""],
        ["follow", "a\0b"],
        ["follow", "-"],
        ["follow", "/dev/null"],
        ["export", "--to", "parquet", "{log}"],
        ["export", "--to", "jsonl", "-o", "/nope/x", "{log}"],
        ["export", "--to", "jsonl", "--min-count", "2", "{log}"],
        ["sql", "selec", "{log}"],
        ["sql", "", "{log}"],
        ["sql", "-- nothing", "{log}"],
        ["sql", "select nothing from hits", "{log}"],
        ["baseline", "write", "-o", "/nope/x", "{log}"],
    ],
    ids=lambda arguments: " ".join(arguments).replace("\0", "NUL"),
)
def test_wrong_use(log, tmp_path, capsys, arguments):
    """
    Wrong use and unreadable input end with status 2 and one sentence.
    """
    (tmp_path / "empty").mkdir()
    given = [each.format(log=log, folder=tmp_path) for each in arguments]
    status, _, err = run(*given, capsys=capsys)

    assert status == 2
    assert err.startswith("async-guard: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "{log}"],
        ["report", "{log}", "--format", "json"],
        ["report", "{folder}"],
        ["report", "{log}", "--dask", "tcp://127.0.0.1:1"],
        ["export", "--to", "jsonl", "{log}"],
        ["export", "--to", "parquet", "{log}"],
        ["baseline", "write", "{log}"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["app.log", "link", "log.md", "log.html", "log.parquet"])
def test_a_log_is_never_written_over(log, tmp_path, capsys, arguments, name):
    """
    A result that would take the place of a log is refused, and the log stays as it is.
    """
    before = Path(log).read_bytes()
    output = str(tmp_path / name)
    if name.startswith("log."):
        log = str(Path(log).rename(output))
    else:
        (tmp_path / "link").symlink_to(log)
    if name == "log.parquet" and "{folder}" in arguments:
        pytest.skip("what is called so in a folder is no log")
    given = [each.format(log=log, folder=tmp_path) for each in arguments]

    status, out, err = run(*given, "-o", output, capsys=capsys)

    assert (status, out, Path(log).read_bytes()) == (2, "", before)
    if arguments[0] != "baseline":  # which says that it is no baseline
        said = "is one of the logs that are read: name another file with -o."
        assert err == f"async-guard: {output} {said}\n"


@pytest.mark.parametrize(
    "arguments",
    [["report", "-"], ["export", "--to", "jsonl", "-"], ["export", "--to", "parquet", "-"]],
    ids=" ".join,
)
def test_standard_input_is_never_written_over(log, arguments):
    """
    Nor is a log that standard input comes from.
    """
    before = Path(log).read_bytes()
    with open(log) as file:
        done = subprocess.run(
            [*COMMAND, *arguments, "-o", log],
            stdin=file,
            capture_output=True,
            text=True,
            env={**os.environ, **counted()},
        )

    said = "is one of the logs that are read: name another file with -o."
    assert (done.returncode, done.stdout, Path(log).read_bytes()) == (2, "", before)
    assert done.stderr == f"async-guard: {log} {said}\n"


def test_a_baseline_is_never_written_over(log, tmp_path, capsys):
    """
    A report does not take the place of the baseline that it is compared with.
    """
    path = tmp_path / "known.json"
    path.write_text('{"version": 1}')

    status, out, err = run("report", log, "--baseline", str(path), "-o", str(path), capsys=capsys)

    assert (status, out, path.read_text()) == (2, "", '{"version": 1}')
    assert err == f"async-guard: {path} is the baseline: name another file with -o.\n"


def test_an_export_that_fails(tmp_path, monkeypatch, capsys):
    """
    An export that breaks off leaves the earlier one as it is, and nothing beside it.
    """
    path, link = tmp_path / "hits.jsonl", tmp_path / "link"
    path.write_text("earlier\n")
    link.symlink_to(path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))

    found = run("export", "--to", "jsonl", "-", "-o", str(link), capsys=capsys)

    assert found == (130, "", "")
    assert path.read_text() == "earlier\n"
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_an_export_through_a_link(log, tmp_path, capsys):
    """
    What is written to a link is what the link leads to.
    """
    path, link = tmp_path / "hits.jsonl", tmp_path / "link"
    link.symlink_to(path)

    assert run("export", "--to", "jsonl", log, "-o", str(link), capsys=capsys)[0] == 0
    assert (link.is_symlink(), len(path.read_text().splitlines())) == (True, 4)


def test_a_report_among_the_logs(log, tmp_path, capsys):
    """
    A report that lies in the folder of the logs is made anew.
    """
    output = str(tmp_path / "report.html")

    assert run("report", str(tmp_path), "-o", output, capsys=capsys)[0] == 0
    assert run("report", str(tmp_path), "-o", output, capsys=capsys) == (0, "", "")
    other = tmp_path.parent / f"{tmp_path.name}.txt"
    for _ in range(2):
        assert run("report", str(tmp_path), "-o", str(other), capsys=capsys) == (0, "", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"version": %s}' % (b"1" * 5000),
        b'{"version": 1, "d2be947801a8627b": "x", <<<<<<< HEAD',
        b'{"version": 1, "d2be947801a8627b": {"count": 1}}',
        b'{"version": 1, "d2be947801a8627b": null}',
    ],
    ids=range(7),
)
def test_damaged_baseline(log, tmp_path, capsys, data):
    """
    A baseline that cannot be understood is named, in one sentence.
    """
    path = tmp_path / "known.json"
    path.write_bytes(data)

    status, out, err = run("report", log, "--baseline", str(path), capsys=capsys)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"async-guard: The baseline {path} is ")


def test_baseline_that_cannot_be_printed(log, tmp_path, capsys):
    """
    Half a surrogate pair in a baseline ends no report.
    """
    path = tmp_path / "known.json"
    path.write_text('{"version": 1, "abc\\ud800": "x"}')

    status, out, _ = run("report", log, "--baseline", str(path), capsys=capsys)

    assert (status, "  abc?  x\n" in out) == (0, True)


def test_baseline_without_a_name(log, capsys):
    """
    An empty name, of a variable that is not set perhaps, is not taken for none.
    """
    assert run("report", log, "--baseline", "", capsys=capsys)[0] == 2
    assert run("follow", log, "--baseline", "", capsys=capsys)[0] == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}', '{"version": true}', "import os\n"])
def test_only_a_baseline_is_written_over(log, tmp_path, capsys, text):
    """
    What is no baseline, or a damaged one, is left as it is.
    """
    path = tmp_path / "known.json"
    path.write_text(text)

    status, out, err = run("baseline", "write", log, "-o", str(path), capsys=capsys)

    assert (status, out, path.read_text()) == (2, "", text)
    assert err.endswith(" Remove it, or name another file with -o.\n")


def test_baseline_to_standard_output(log, tmp_path, capsys, monkeypatch):
    """
    ``-`` is standard output, and nothing but the baseline goes there.
    """
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("no baseline")

    status, out, err = run("baseline", "write", log, "-o", "-", capsys=capsys)

    what = "users.User.profile in users.types.UserType.profile"
    known = {f"{number:016x}": what for number in (1, 2, 3)}
    assert (status, json.loads(out), err) == (0, {**known, "version": 1}, "")
    assert Path("-").read_text() == "no baseline"


def test_baseline_behind_a_link(log, tmp_path, capsys):
    """
    A baseline behind a link is written where the link leads.
    """
    path, link = tmp_path / "known.json", tmp_path / "link.json"
    path.write_text('{"version": 1}')
    link.symlink_to(path.name)

    status, _, _ = run("baseline", "write", log, "-o", str(link), capsys=capsys)

    assert (status, link.is_symlink(), len(json.loads(path.read_text()))) == (0, True, 4)


def test_filters_know_the_schema():
    """
    What a filter takes for misspelt is what the schema has not.
    """
    keys = json.loads(SCHEMA.read_text("utf-8"))["properties"]

    assert {name: set(known) - {"unknown"} for name, known in KNOWN.items()} == {
        name: set(keys[f"async_guard.{name}"]["enum"]) for name in KNOWN
    }


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["report"],
        ["report", "x", "--format", "y"],
        ["report", "x", "--min-count", "²"],
        ["report", "x", "--processes", "9" * 5000],
        *(["follow", "x", "--interval", each] for each in ("nan", "-1", "inf", "soon")),
    ],
)
def test_usage(capsys, arguments):
    """
    What argparse refuses is status 2 and one sentence, too.
    """
    status, out, said = run(*arguments, capsys=capsys)

    assert (status, out, said.count("\n")) == (2, "", 1)
    assert said.startswith("async-guard")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--kind", "n_plus_one"], {}),
        (["--kind", "sync_*"], {1: 41, 2: 1, 3: 2}),
        (["--outcome", "swallowed"], {2: 1}),
        (["--outcome", "raised", "--outcome", "swallowed"], {1: 41, 2: 1, 3: 2}),
        (["--relation", "users.*"], {1: 41, 2: 1, 3: 2}),
        (["--relation", "orders.*"], {}),
        (["--field", "UserType.profile"], {1: 41, 2: 1, 3: 2}),
        (["--field", "Nobody.*"], {}),
        (["--owner", "app"], {}),
        (["--service", "shop"], {1: 41, 2: 1, 3: 2}),
        (["--version", "2026.2"], {}),
        (["--min-count", "2"], {1: 41, 3: 2}),
        (["--since", "2026-01-31T12:34:56Z"], {1: 41, 2: 1, 3: 2}),
        (["--since", "2026-02-01"], {}),
        (["--until", "2026-01-31T12:34:56Z"], {}),
        (["--since", "1h"], {}),
        (["--until", "1h 30m"], {1: 41, 2: 1, 3: 2}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filters(log, capsys, arguments, expected):
    """
    Every filter leaves out what it says.
    """
    status, out, _ = run("report", log, "--format", "json", *arguments, capsys=capsys)

    assert (status, problems(out)) == (0, expected)


def test_undated(tmp_path, capsys):
    """
    What a filter by time leaves out because it says no time is told.
    """
    bare = {key: value for key, value in event(1).items() if key != "timestamp"}
    path = tmp_path / "app.log"
    path.write_text(json.dumps(bare))
    _, out, _ = run("report", str(path), "--since", "2020-01-01", capsys=capsys)

    assert "1 event left out: they say no time." in out


@pytest.mark.parametrize("suffix", ["html", "json", "md", "sarif", "txt"])
def test_output(log, tmp_path, capsys, suffix):
    """
    The name of the file says the format.
    """
    path = tmp_path / f"report.{suffix}"
    status, out, err = run("report", log, "-o", str(path), capsys=capsys)

    begin = {
        "html": "<!doctype",
        "json": "{\n",
        "md": "# async",
        "sarif": '{\n  "$schema',
        "txt": "finger",
    }
    assert (status, out, err) == (0, "", "")
    assert path.read_text().startswith(begin[suffix])


def test_inputs(tmp_path, capsys):
    """
    Directories, rotated files and globs are read, each file once.
    """
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_text(line(1))
    (folder / "app.log.1").write_text(line(2))
    (folder / "app.log.2.gz").write_bytes(gzip.compress(line(3).encode()))
    (folder / "link.log").symlink_to(folder / "app.log")
    (folder / ".hidden").write_text(line(9))
    given = [str(folder), str(folder / "app.log"), str(folder / "*.log"), str(folder / "app.log*")]
    status, out, _ = run("report", "--format", "json", *given, capsys=capsys)

    assert status == 0
    assert problems(out) == {1: 1, 2: 1, 3: 1}
    assert json.loads(out)["input"]["files"] == 3


def test_standard_input(log):
    """
    ``-`` is standard input, compressed or not.
    """
    for data in (Path(log).read_bytes(), gzip.compress(Path(log).read_bytes())):
        done = subprocess.run(
            [*COMMAND, "report", "-", "--format", "json"],
            input=data,
            capture_output=True,
            env={**os.environ, **counted()},
        )
        assert problems(done.stdout.decode()) == {1: 41, 2: 1, 3: 2}


def test_closed_pipe(tmp_path):
    """
    A reader that has seen enough is no error, however much there is to say.
    """
    path = tmp_path / "app.log"
    path.write_text("\n".join(line(number) for number in range(1, 200)))
    command = " ".join([*COMMAND, "report", str(path), "--format", "json"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, **counted()},
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_json_in_ascii(tmp_path):
    """
    Where standard output takes no more than ASCII, JSON is JSON all the same.
    """
    path = tmp_path / "app.log"
    path.write_text(line(1, relation="users.Größe.\N{PILE OF POO}"))
    ascii_only = {"PYTHONIOENCODING": "ascii", **counted()}
    for arguments in (["report", "--format", "json"], ["export", "--to", "jsonl"]):
        done = subprocess.run(
            [*COMMAND, *arguments, str(path)], capture_output=True, env={**os.environ, **ascii_only}
        )
        found = json.loads(done.stdout)
        [problem] = found.get("problems", [found])
        assert problem["relation"] == "users.Größe.\N{PILE OF POO}"


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_closed_streams(log, monkeypatch, capsys, name):
    """
    Without the stream that it needs a command ends in one sentence.
    """
    monkeypatch.setattr(sys, name, None)

    status = cli.main(["report", "-" if name == "stdin" else log])

    monkeypatch.undo()
    said = {
        "stdin": "async-guard: Standard input is closed: name a log file.\n",
        "stdout": "async-guard: Standard output is closed.\n",
    }
    assert (status, capsys.readouterr().err) == (2, said[name])


def test_names_that_move_the_cursor(tmp_path, capsys):
    """
    A file's name is told without the control characters that may be in it.
    """
    path = tmp_path / "a\x1b[31m\nb.log"
    path.write_text("\n".join(['{"event": "async_guard.hit"}', "ERROR async_guard.hit: cut"]))
    shown = f"{tmp_path}/a\\x1b[31m\\nb.log"

    _, _, said = run("export", "--to", "jsonl", str(path), capsys=capsys)
    _, _, refused = run("report", f"{path}.1", capsys=capsys)

    assert f"lost: {shown}, byte 0: an event without a fingerprint" in said.splitlines()
    assert f"(the first: {shown}, byte 29)" in said
    assert refused == f"async-guard: There is no log at {shown}.1.\n"


class Interrupted(io.BytesIO):
    """Standard input, while somebody presses Ctrl-C."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise KeyboardInterrupt


def test_interrupted(monkeypatch, capsys):
    """
    Whoever interrupts it gets the exit status of that, and no traceback.
    """
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))

    assert run("report", "-", capsys=capsys) == (130, "", "")


def test_unique(tmp_path, capsys):
    """
    Hits that were shipped more than once count once, if that is asked for.
    """
    path = tmp_path / "app.log"
    path.write_text("\n".join([line(1), line(2), line(1), line(1)]))

    assert problems(run("report", str(path), "--format", "json", capsys=capsys)[1]) == {1: 3, 2: 1}
    _, out, _ = run("report", str(path), "--format", "json", "--unique", capsys=capsys)
    assert problems(out) == {1: 1, 2: 1}
    assert json.loads(out)["input"]["repeated"] == 2


def test_ratchet(log, tmp_path, capsys):
    """
    Against a baseline only new problems fail, and those that are gone are listed.
    """
    base = str(tmp_path / "base.json")
    assert run("baseline", "write", log, "-o", base, capsys=capsys)[0] == 0
    written = Path(base).read_text()
    assert run("report", log, "--baseline", base, "--fail-on", "new", capsys=capsys)[0] == 0
    assert run("report", log, "--baseline", base, "--fail-on", "any", capsys=capsys)[0] == 1

    other = tmp_path / "other.log"
    other.write_text("\n".join([line(1), line(7)]))
    status, out, _ = run(
        "report", str(other), "--baseline", base, "--fail-on", "new", capsys=capsys
    )

    assert status == 1
    assert "new: users.User.profile" in out
    assert "1 new problem against the baseline." in out
    assert f"  {2:016x}" in out and f"  {3:016x}" in out
    assert list(json.loads(written)) == sorted(json.loads(written))
    assert "count" not in written


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        ([], [2, 3]),
        (["--field", "Nobody.*"], [2, 3]),
        (["--min-count", "9"], [2, 3]),
        (["--kind", "sync_orm"], []),
        (["--outcome", "raised"], []),
        (["--since", "2020-01-01"], []),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_what_a_filter_leaves_out_is_not_gone(log, tmp_path, capsys, arguments, gone):
    """
    Of a log that is not read in full nobody knows what no longer occurs.
    """
    base, other = str(tmp_path / "base.json"), tmp_path / "other.log"
    assert run("baseline", "write", log, "-o", base, capsys=capsys)[0] == 0
    other.write_text(line(1))
    given = ["--baseline", base, "--format", "json", *arguments]

    _, out, _ = run("report", str(other), *given, capsys=capsys)

    assert [int(each, 16) for each in json.loads(out)["baseline"]["gone"]] == gone


def test_a_fingerprint_in_capitals(tmp_path, capsys):
    """
    Neither log nor reader has to write a fingerprint in small letters.
    """
    path = tmp_path / "app.log"
    path.write_text(line(1, fingerprint="ABCDEF0123456789"))

    for given in ("ABCDEF0123456789", "abcdef"):
        status, out, _ = run("explain", given, str(path), capsys=capsys)
        assert (status, out.split()[0]) == (0, "ABCDEF0123456789")


def test_one_problem(tmp_path, capsys):
    """
    One problem is not several.
    """
    log, known = tmp_path / "app.log", tmp_path / "known.json"
    log.write_text(line(1))

    said = run("baseline", "write", str(log), "-o", str(known), capsys=capsys)

    assert said == (0, f"{known}: 1 problem.\n", "")
    assert "\nhits     1 in 1 event\n" in run("explain", "0", str(log), capsys=capsys)[1]
    _, page, _ = run("report", str(log), "--format", "html", capsys=capsys)
    assert "<title>async_guard: 1 problem</title>" in page
    assert "<p>1 problem, 1 hit. " in page


def test_explain(log, capsys):
    """
    The first characters of a fingerprint are enough to be told everything.
    """
    path = Path(log)
    path.write_text(path.read_text().replace(f"{2:016x}", "abcdef0123456789"))
    status, out, _ = run("explain", "ABC", log, capsys=capsys)

    assert status == 0
    for expected in (
        "UserType.profile read User.profile while the event loop runs",
        "users/types.py:24 in users.types.UserType.profile",
        "    user.profile",
        '    ….select_related("profile")',
        "  > users/types.py:24 in users.types.UserType.profile",
        "Users",
        "request_id     4b1a4f2e-8f5b-4f0e-9a39-0d3f1a2b3c4d",
        "trace_id       0af7651916cd43dd8448eb211c80319c",
        "What a retry does to it",
    ):
        assert expected in out


def test_retries(tmp_path, capsys):
    """
    What retries cost is added up.
    """
    path = tmp_path / "app.log"
    retry = {"retry__strategy": "rerun", "retry__queries": 2, "outcome": "retried"}
    path.write_text("\n".join(line(1, **retry, retry__duration_ms=n) for n in (1.0, 3.0)))
    _, out, _ = run("explain", "0", str(path), capsys=capsys)

    assert "retried 2; rerun: 2.0 ms on average, 3.0 ms at most, 4 queries." in " ".join(
        out.split()
    )


def test_on_a_terminal(log):
    """
    On a terminal of 80 columns there is a table that fits.
    """
    pytest.importorskip("rich")
    main, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, "report", log], stdout=other, stderr=other, env=environment
    ) as process:
        os.close(other)
        data = b""
        while select.select([main], [], [], 30)[0]:
            try:
                data += os.read(main, 65536)
            except OSError:  # the other side is closed
                break
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;]*m", "", data.decode()).replace("\r", "")

    assert process.returncode == 0
    assert "\x1b[" in data.decode()
    assert "users.User.profile" in text
    assert max(map(len, text.splitlines())) <= 80


SETTINGS = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
SPEAKERS = [b"async-guard", b"CommandError"]
both = pytest.mark.parametrize(
    ("command", "environment"), [(COMMAND, NO_SETTINGS), (MANAGE, SETTINGS)], ids=["own", "manage"]
)


@both
def test_output_that_cannot_show_everything(command, environment, log):
    """
    What standard output cannot encode is escaped, and ends no report.
    """
    environment = {**environment, **counted(), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "report", log], env=environment, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"raised \\u00b7 AG101" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
@both
def test_output_that_is_full(command, environment, log):
    """
    A full disk behind standard output is status 2 and one sentence.
    """
    environment = {**environment, **counted()}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, "report", log], env=environment, stdout=full, stderr=subprocess.PIPE
        )

    speaker, said = done.stderr.split(b": ", 1)
    assert (done.returncode, speaker) == (2, SPEAKERS[command is MANAGE])
    assert said == b"standard output failed: No space left on device.\n"


@both
@pytest.mark.parametrize(
    ("arguments", "unbuffered", "status"),
    [
        (["report"], "", 0),
        (["report", "--fail-on", "any", "--format", "html"], "", 1),
        (["report", "--fail-on", "any"], "1", 1),
        (["explain", f"{1:016x}"], "1", 0),
    ],
)
def test_output_that_nobody_reads(command, environment, unbuffered, arguments, status, log):
    """
    A reader that has gone is no failure, and what was found still is the exit status.
    """
    shown, stdout = os.pipe()
    os.close(shown)
    with open(stdout, "wb") as pipe:
        done = subprocess.run(
            [*command, *arguments, log],
            env={**environment, **counted(), "PYTHONUNBUFFERED": unbuffered},
            stdout=pipe,
            stderr=subprocess.PIPE,
        )

    assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize("arguments", [[], ["report"], ["report", "x", "--nope"]])
def test_usage_of_the_management_command(arguments):
    """
    ``manage.py async_guard`` says in one sentence, too, what is wrong; called, it raises it.
    """
    environment = {**SETTINGS, **counted()}
    done = subprocess.run([*MANAGE, *arguments], env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "async_guard" in done.stderr.split(": ")[0]
    with pytest.raises(CommandError, match="Error: "):
        call_command("async_guard", *arguments)


def test_sql_of_a_name_that_is_no_text(log, capsys):
    """
    A log whose name is not UTF-8 is asked like any other.
    """
    pytest.importorskip("duckdb")
    path = os.fsencode(log) + b"\xff"
    os.rename(log, path)

    status, out, _ = run("sql", "select count(*) as n from hits", os.fsdecode(path), capsys=capsys)

    assert (status, out) == (0, "n\n4\n")


def test_doctor(capsys):
    """
    The doctor tells what is installed, configured and patched.
    """
    status, out, _ = run("doctor", capsys=capsys)

    assert status == 0
    for expected in ("Installed", "django", "Configured", "BURST", "Patched", "Odd"):
        assert expected in out
    done = subprocess.run(
        [*COMMAND, "doctor"], env={**NO_SETTINGS, **counted()}, capture_output=True, text=True
    )
    assert "No Django project is loaded here" in done.stdout


def test_export(log, tmp_path, capsys):
    """
    Parquet and JSON lines hold the same rows.
    """
    duckdb = pytest.importorskip("duckdb")
    parquet, lines = str(tmp_path / "hits.parquet"), tmp_path / "hits.jsonl"
    assert run("export", "--to", "parquet", "-o", parquet, log, capsys=capsys)[0] == 0
    assert run("export", "--to", "jsonl", "-o", str(lines), log, capsys=capsys)[0] == 0

    rows = [json.loads(text) for text in lines.read_text().splitlines()]
    query = f"select fingerprint, count, path, line, in_async_def, event from '{parquet}'"
    names = ("fingerprint", "count", "path", "line", "in_async_def", "event")
    assert duckdb.sql(query).fetchall() == [tuple(row[name] for name in names) for row in rows]
    assert sum(row["count"] for row in rows) == 44


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--field", "UserType.*"], [1, 1, 2, 3]),
        (["--field", "Query.*", "--field", "Nobody.x"], []),
        (["--outcome", "swallowed", "--field", "*.profile"], [2]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_filtered_export(log, capsys, arguments, expected):
    """
    An export has the events whose own field, and whatever else is asked for, fits.
    """
    _, out, _ = run("export", "--to", "jsonl", log, *arguments, capsys=capsys)

    found = [int(json.loads(each)["fingerprint"], 16) for each in out.splitlines()]
    assert found == expected


def test_exports_among_the_logs(log, tmp_path, capsys):
    """
    What was exported is no log: told of its lines, passed over in a folder, refused by name.
    """
    pytest.importorskip("duckdb")
    parquet, lines = tmp_path / "hits.parquet", tmp_path / "hits.jsonl"
    assert run("export", "--to", "parquet", "-o", str(parquet), log, capsys=capsys)[0] == 0
    status, out, _ = run("report", str(tmp_path), "--format", "json", capsys=capsys)
    assert (status, json.loads(out)["input"]["files"]) == (0, 1)
    assert run("report", str(parquet), capsys=capsys) == (
        2,
        "",
        f"async-guard: {parquet} is Parquet and no log: leave it out, or ask DuckDB about it.\n",
    )

    assert run("export", "--to", "jsonl", "-o", str(lines), log, capsys=capsys)[0] == 0
    status, out, _ = run("report", str(lines), capsys=capsys)
    told = re.findall(r"byte \d+: (.*)", out)
    assert told == ["a row that export wrote: read the log that it was made of"] * 4


def test_sql(log, capsys):
    """
    SQL sees what the report sees; the cache beside the log is used, and never old.
    """
    pytest.importorskip("duckdb")
    query = "select fingerprint, sum(count) as hits from hits group by all order by hits desc"
    caches = lambda: list(Path(log).parent.glob(".app.log.*.parquet"))  # noqa: E731

    _, out, _ = run("sql", query, log, "--format", "csv", capsys=capsys)
    assert out.splitlines() == ["fingerprint,hits", f"{1:016x},41", f"{3:016x},2", f"{2:016x},1"]
    [cache] = caches()
    made = cache.stat().st_mtime_ns
    _, again, err = run("sql", query, log, "--format", "csv", capsys=capsys)
    assert (again, cache.stat().st_mtime_ns) == (out, made)
    assert "5 lines read" in err

    with open(log, "a") as file:
        file.write(line(1) + "\n")
    _, out, _ = run("sql", query, log, "--format", "json", capsys=capsys)
    assert json.loads(out.splitlines()[0]) == {"fingerprint": f"{1:016x}", "hits": 42}
    assert len(caches()) == 1
    _, out, _ = run("sql", query, log, capsys=capsys)
    assert out.startswith("fingerprint       hits\n")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 3000], ids=["empty", "cut", "damaged"])
def test_sql_makes_a_damaged_cache_anew(log, capsys, data):
    """
    A table beside the log that is none is no reason to give no answer.
    """
    pytest.importorskip("duckdb")
    query = "select count(*) as n from hits"
    first = run("sql", query, log, capsys=capsys)
    [cache] = Path(log).parent.glob(".app.log.*.parquet")
    cache.write_bytes(data)

    assert first[:2] == (0, "n\n4\n")
    assert run("sql", query, log, capsys=capsys) == first
    assert cache.read_bytes() != data


def test_sql_of_a_log_with_a_long_name(tmp_path, capsys):
    """
    Where a table beside the log would have too long a name, there is none.
    """
    pytest.importorskip("duckdb")
    path = tmp_path / ("x" * 214)
    path.write_text(line(1))

    assert run("sql", "select count(*) as n from hits", str(path), capsys=capsys)[:2] == (
        0,
        "n\n1\n",
    )
    assert list(tmp_path.iterdir()) == [path]


def test_sql_as_json(log, capsys):
    """
    Every column has a name of its own, and what is no number in JSON is null.
    """
    pytest.importorskip("duckdb")
    query = "select 1 as a, 2 as a, 3 as b, [1.5, 'inf'::double] as c, {'d': 'nan'::double} as e"

    _, out, _ = run("sql", query, log, "--format", "json", capsys=capsys)

    assert json.loads(out) == {"a": 1, "a_1": 2, "b": 3, "c": [1.5, None], "e": {"d": None}}


def test_sql_tells_the_same_from_its_cache(log, capsys):
    """
    What a log says of its lines is told again where its table is at hand.
    """
    pytest.importorskip("duckdb")
    with open(log, "a") as file:
        file.write("ERROR async_guard.hit: it was cut\n{")

    first = run("sql", "select 1", log, capsys=capsys)

    assert "1 line written for people" in first[2]
    assert run("sql", "select 1", log, capsys=capsys) == first


@pytest.fixture
def orphans(log) -> list[Path]:
    """Return tables of two logs that are gone, beside files that only look like some."""
    names = [".app.log.1.20-30.async-guard-1.parquet", ".a b.log.0-7.async-guard-2.parquet"]
    others = [
        ".mine.parquet",
        "app.log.1.20-30.async-guard-1.parquet",
        ".app.log.1.20-x.async-guard-1.parquet",
        ".app.log.1.20-30.async-guard-1.parquet.bak",
        f".{os.path.basename(log)}.1-1.async-guard-0.parquet",
    ]
    paths = [Path(log).parent / name for name in [*names, *others]]
    for path in paths:
        path.write_text("")
    return paths[: len(names)]


def test_sql_removes_the_caches_of_logs_that_are_gone(log, orphans, capsys):
    """
    A table whose log was rotated away is removed, and no file that may be somebody else's.
    """
    pytest.importorskip("duckdb")
    assert run("sql", "select 1", log, capsys=capsys)[0] == 0  # and the old table of this log
    before = set(os.listdir(Path(log).parent))
    orphans[0].write_text("")

    assert run("sql", "select 1", log, capsys=capsys)[0] == 0

    left = set(os.listdir(Path(log).parent))
    assert left == before
    assert {path.name for path in orphans}.isdisjoint(left)
    assert {".mine.parquet", ".app.log.1.20-30.async-guard-1.parquet.bak"} < left


def test_sql_where_caches_cannot_be_removed(log, orphans, capsys, monkeypatch):
    """
    Where that is not permitted they stay, and the answer is as ever.
    """
    pytest.importorskip("duckdb")
    unlink = os.unlink

    def refuse(path, *more, **options):
        if os.fspath(path) in map(str, orphans):
            raise PermissionError(path)
        unlink(path, *more, **options)

    monkeypatch.setattr(os, "unlink", refuse)

    status, out, _ = run("sql", "select count(*) as n from hits", log, capsys=capsys)

    assert (status, out) == (0, "n\n4\n")
    assert all(path.exists() for path in orphans)


class Following:
    """``follow`` as a process, and what it has said so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out, self.complaints = folder / "said.txt", folder / "complaints.txt"
        with self._out.open("wb") as out, self.complaints.open("wb") as err:
            command = [*COMMAND, "follow", "--interval", "0.5", *arguments]
            self._process = subprocess.Popen(command, stdout=out, stderr=err)

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self._out.read_text():
            assert time.monotonic() < deadline, self._out.read_text()
            time.sleep(0.05)

    def end(self) -> str:
        self._process.terminate()
        assert self._process.wait(30) == 0
        return self._out.read_text()

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()


def test_follow(tmp_path):
    """
    New problems come as one line each, over torn writes, rotation and truncation; others as counts.
    """
    path = tmp_path / "app.log"
    path.write_text(line(1) + "\n")
    with Following(tmp_path, str(path)) as following:
        following.until(f"new     {1:016x}")

        with path.open("a") as file:
            text = line(2)
            file.write(text[:500])
            file.flush()
            time.sleep(0.6)
            file.write(text[500:] + "\n" + line(1, count=4) + "\n")
        following.until(f"new     {2:016x}")
        following.until(f"+4      {1:016x}  5 in all")

        path.rename(tmp_path / "app.log.1")
        with (tmp_path / "app.log.1").open("a") as file:
            file.write(line(3) + "\n")
        path.write_text(line(4) + "\n")
        following.until(f"new     {3:016x}")
        following.until(f"new     {4:016x}")

        path.write_text("")
        time.sleep(0.6)
        with path.open("a") as file:
            file.write(line(5) + "\n")
        following.until(f"new     {5:016x}")
        said = following.end()

        assert said.count("  new  ") == 5
        assert "0 lost." in said


def test_follow_what_is_not_there(tmp_path):
    """
    A file that is not there yet is waited for, which is said, and read from its beginning.
    """
    path, base = tmp_path / "app.log", tmp_path / "base.json"
    base.write_text(json.dumps({f"{1:016x}": "known", "version": 1}))
    with Following(tmp_path, str(path), "-n", "0", "--baseline", str(base)) as following:
        time.sleep(1)
        path.write_text(line(1) + "\n" + line(2) + "\n")
        following.until(f"new     {2:016x}")
        following.until(f"+1      {1:016x}")
        following.end()

        said = following.complaints.read_text()
        assert said == f"{path} is not there yet: waiting for it.\n"
