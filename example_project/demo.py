#!/usr/bin/env python
"""
Run the example API under uvicorn, break it over HTTP, and show what async_guard saw.

Sends every operation twice: to /graphql/, where it fails, and to /graphql-fixed/, where
the answer must be right and no hit may appear. On a terminal the hits are shown for
people; into a pipe go the JSON lines of the log file as they are, then the report. All
files live in a temporary folder, but for the report as a page. Exit status 1, and why,
if anything was not as it should be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
REPORT = HERE / "out" / "report.html"
BROKEN, FIXED = "/graphql/", "/graphql-fixed/"
PASSWORD = "correct horse battery staple"  # of every account that `manage.py seed` makes
START_TIMEOUT_S = 30
HIT_TIMEOUT_S = 10
QUIET_S = 0.4
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says
COUNTED = ("async_guard.hit", "async_guard.summary")

FOR_PEOPLE = sys.stdout.isatty()
COLOURED = FOR_PEOPLE and "NO_COLOR" not in os.environ
BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


class DemoFailed(Exception):
    """Something was not as it should be; the message is one sentence for people."""


# ── what is asked ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Step:
    """One operation, what it must answer once mended, and what is wrong until then."""

    title: str
    query: str
    right: Callable[[dict[str, Any]], bool]
    """Whether the data of an answer is what the author of the operation wanted."""
    culprit: str = ""
    """Function with the call site of the hits, "" where there must be none."""
    variables: Callable[[Api], dict[str, str]] = lambda api: {}
    hits: int = 1
    """So many hits does one request make, where there is a culprit."""
    clients: int = 1
    """So many clients ask at once."""


LOGIN = """
mutation Login($email: String!, $password: String!, $deviceId: String) {
  auth {
    login(email: $email, password: $password, deviceId: $deviceId) {
      success message otpRequired accessToken refreshToken
      user { id email role profile { onboardingCompleted } }
    }
  }
}
"""
REFRESH = """
mutation Refresh($token: String!) {
  auth { refreshToken(refreshToken: $token) { success message accessToken } }
}
"""
VERIFY = """
mutation Verify($code: String!, $deviceId: String!) {
  otps {
    verify(email: "grace@example.com", code: $code, deviceId: $deviceId) {
      success message accessToken
    }
  }
}
"""
PROFILE = """
query Profile($email: String!) { user(email: $email) { profile { onboardingCompleted } } }
"""
DEVICE = """
query LastDevice { user(email: "grace@example.com") { lastDevice } }
"""
PROFILES = "query Profiles { users { email profile { onboardingCompleted } } }"
TEAMS = "query Teams { users { email teamName } }"
ONBOARDING = "query Onboarding { onboarding { email completed } }"


def login_as(name: str, **device: str) -> dict[str, str]:
    return {"email": f"{name}@example.com", "password": PASSWORD, **device}


STEPS = [
    Step(
        "Log in, user with a profile",
        LOGIN,
        lambda data: (
            data["auth"]["login"]["accessToken"]
            and data["auth"]["login"]["user"]["profile"] == {"onboardingCompleted": True}
        ),
        "AuthMutation.login",
        lambda api: login_as("ada"),
    ),
    Step(
        "Log in, new user",
        LOGIN,
        lambda data: (
            data["auth"]["login"]["accessToken"]
            and data["auth"]["login"]["user"]["profile"] is None
        ),
        "AuthMutation.login",
        lambda api: login_as("new"),
    ),
    Step(
        "Log in from a trusted device",
        LOGIN,
        lambda data: data["auth"]["login"]["accessToken"],
        "AuthMutation.login",
        lambda api: login_as("grace", deviceId="grace-laptop"),
    ),
    Step(
        "Log in from an unknown device: a one-time code is sent",
        LOGIN,
        lambda data: (
            data["auth"]["login"]["otpRequired"] and not data["auth"]["login"]["accessToken"]
        ),
        variables=lambda api: login_as("grace", deviceId="grace-phone"),
    ),
    Step(
        "Verify the one-time code",
        VERIFY,
        lambda data: data["otps"]["verify"]["accessToken"],
        "CustomRefreshToken.for_user",
        lambda api: {"code": api.last_code(), "deviceId": "grace-phone"},
    ),
    Step(
        "Refresh a token",
        REFRESH,
        lambda data: data["auth"]["refreshToken"]["accessToken"],
        "CustomRefreshToken.for_user",
        lambda api: {"token": api.refresh_token()},
    ),
    Step(
        "A user with a profile",
        PROFILE,
        lambda data: data["user"]["profile"] == {"onboardingCompleted": True},
        "UserType.profile",
        lambda api: {"email": "ada@example.com"},
    ),
    Step(
        "A new user: no profile",
        PROFILE,
        lambda data: data["user"]["profile"] is None,
        "UserType.profile",
        lambda api: {"email": "new@example.com"},
    ),
    Step(
        "Twelve users and their profiles, for ten clients at once",
        PROFILES,
        lambda data: len([user for user in data["users"] if user["profile"]]) == 11,
        "UserType.profile",
        hits=12,
        clients=10,
    ),
    Step(
        "A hit that an except turns into null",
        DEVICE,
        lambda data: data["user"]["lastDevice"] is not None,
        "UserType.last_device",
    ),
    Step(
        "Twelve users and their teams: N+1 in the worker thread",
        TEAMS,
        lambda data: all(user["teamName"] for user in data["users"]),
        "UserType.team_name",
        hits=12,
    ),
    Step(
        "Rows and relation loaded asynchronously: nothing to report",
        ONBOARDING,
        lambda data: len(data["onboarding"]) == 11,
    ),
]


# ── who is asked ─────────────────────────────────────────────────────────────────────


@dataclass
class Api:
    """The running example, as a client sees it."""

    url: str
    database: Path

    def ask(self, path: str, query: str, variables: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path,
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with DIRECTLY.open(request, timeout=30) as response:
                return json.load(response)
        except (OSError, ValueError) as error:
            raise DemoFailed(f"POST {path} got no answer: {error}.") from error

    def answers(self, path: str, step: Step) -> list[dict[str, Any]]:
        """Have every client of *step* ask, at the same time."""
        variables = step.variables(self)
        with ThreadPoolExecutor(step.clients) as clients:
            asked = [
                clients.submit(self.ask, path, step.query, variables) for _ in range(step.clients)
            ]
        return [answer.result() for answer in asked]

    def last_code(self) -> str:
        """Look where a text message would have carried the one-time code."""
        with closing(sqlite3.connect(self.database)) as connection:
            newest = "SELECT code FROM otps_onetimecode ORDER BY id DESC LIMIT 1"
            found = connection.execute(newest).fetchone()
        if found is None:
            raise DemoFailed("The login from an unknown device sent no one-time code.")
        return found[0]

    def refresh_token(self) -> str:
        """Log in where that works already."""
        answer = self.ask(FIXED, LOGIN, login_as("ada"))
        try:
            return answer["data"]["auth"]["login"]["refreshToken"]
        except TypeError as error:
            raise DemoFailed(f"The mended login failed: {answer}") from error


@dataclass
class Site:
    """The example project with a database and a log of its own, in *folder*."""

    folder: Path
    application: str = "config.asgi:application"

    @property
    def database(self) -> Path:
        return self.folder / "db.sqlite3"

    @property
    def hits(self) -> Path:
        return self.folder / "hits.jsonl"

    @property
    def server_log(self) -> Path:
        return self.folder / "server.log"

    def environment(self) -> dict[str, str]:
        """Make the example importable, and async_guard also where it is not installed."""
        search = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        unwanted = ("POSTGRES_DB", "DJANGO_ALLOW_ASYNC_UNSAFE")
        return {key: value for key, value in os.environ.items() if key not in unwanted} | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "EXAMPLE_DEBUG": "0",
            "EXAMPLE_DB": str(self.database),
            "ASYNC_GUARD_LOG_FILE": str(self.hits),
            "ASYNC_GUARD_SUMMARY_INTERVAL_S": "1",  # a demo should not take a minute
            "PYTHONPATH": os.pathsep.join(filter(None, search)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def manage(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, str(HERE / "manage.py"), *command],
            env=self.environment(),
            cwd=HERE,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise DemoFailed(f"manage.py {command[0]} failed: {last_line(done.stderr)}")

    @contextmanager
    def served(self) -> Iterator[Api]:
        """Run two workers on a free port until the block ends."""
        port = free_port()
        options = ["--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
        with self.server_log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", self.application, *options],
                env=self.environment(),
                cwd=HERE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us: we stop the server, in order
            )
        try:
            api = Api(f"http://127.0.0.1:{port}", self.database)
            self.wait_until_ready(api, process)
            yield api
        finally:
            stop(process)

    def wait_until_ready(self, api: Api, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                api.ask(BROKEN, "query Ready { __typename }", {})
            except DemoFailed:
                time.sleep(0.1)
            else:
                return
        said = last_line(self.server_log.read_text(errors="replace"))
        raise DemoFailed(f"The server did not start: {said}")


def free_port() -> int:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to finish; what is left of its process group is killed."""
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        note("The server did not stop when asked and is killed.")
    with suppress(ProcessLookupError):  # as it should be: nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing."


# ── what the guard saw ───────────────────────────────────────────────────────────────


class Event(dict[str, Any]):
    """One line of the log file."""

    raw: str
    """The line as it was logged."""


@dataclass
class Follower:
    """Reads the log file while two processes append to it."""

    path: Path
    events: list[Event] = field(default_factory=list)
    _offset: int = 0

    def new(self) -> list[Event]:
        """Return the events since last time; a line without its end is left for later."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            log.seek(self._offset)
            complete = log.read().rpartition(b"\n")[0]
        if not complete:
            return []
        self._offset += len(complete) + 1
        events = [read_event(line) for line in complete.splitlines()]
        self.events += events
        return events

    def until(self, is_complete: Callable[[], bool]) -> Iterator[Event]:
        """Yield events as they come, until *is_complete* and the log is quiet, or in vain."""
        waits_until = time.monotonic() + HIT_TIMEOUT_S
        quiet_at = time.monotonic() + QUIET_S
        while time.monotonic() < (quiet_at if is_complete() else waits_until):
            if events := self.new():
                yield from events
                quiet_at = time.monotonic() + QUIET_S
            time.sleep(0.02)

    def has_seen(self, culprit: str) -> bool:
        return not culprit or any(is_hit_in(event, culprit) for event in self.events)

    def totals(self) -> Counter[str]:
        """Add up the hits by fingerprint: one line may stand for many."""
        counts: Counter[str] = Counter()
        for event in self.events:
            if event["event"] in COUNTED and "async_guard.fingerprint" in event:
                counts[event["async_guard.fingerprint"]] += event["async_guard.count"]
        return counts

    def problems(self) -> list[Problem]:
        """Return what the hits have in common, the most frequent problem first."""
        hits: dict[str, list[Event]] = defaultdict(list)
        for event in filter(is_hit, self.events):
            hits[event["async_guard.fingerprint"]].append(event)
        return [Problem(hits[key], count) for key, count in self.totals().most_common()]


def read_event(line: bytes) -> Event:
    try:
        event = Event(json.loads(line))
    except ValueError as error:
        raise DemoFailed(f"The log file holds a line that is not JSON: {line[:80]!r}.") from error
    event.raw = line.decode()
    return event


def is_hit(event: Event) -> bool:
    return event["event"] == "async_guard.hit"


def is_hit_in(event: Event, function: str) -> bool:
    return is_hit(event) and event["code.function.name"].endswith(function)


def relation(event: Event) -> str:
    """Name what was touched, as precisely as the guard knows it."""
    if found := event.get("async_guard.relation"):
        return found
    model = event.get("async_guard.orm.model", "the database")
    operation = event.get("async_guard.orm.operation")
    return f"{model} ({operation})" if operation else model


def call_site(event: Event) -> str:
    function = ".".join(event["code.function.name"].split(".")[-2:])
    return f"{event['code.file.path']}:{event['code.line.number']} in {function}"


@dataclass
class Problem:
    """All hits of one fingerprint: those that were logged, and how many there were."""

    hits: list[Event]
    count: int


# ── how it is shown ──────────────────────────────────────────────────────────────────


def paint(text: str, *codes: str) -> str:
    return f"\033[{';'.join(codes)}m{text}\033[0m" if COLOURED else text


def note(text: str = "") -> None:
    """Tell people what goes on, without getting between the JSON lines of a pipe."""
    print(text, file=sys.stdout if FOR_PEOPLE else sys.stderr, flush=True)


def width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def indented(text: str, indent: int = 4) -> str:
    space = " " * indent
    return textwrap.fill(text, width(), initial_indent=space, subsequent_indent=space)


def show_answer(answer: dict[str, Any]) -> None:
    """Show what the client gets."""
    said = [error["message"] for error in answer.get("errors") or ()]
    data = textwrap.shorten(json.dumps(answer.get("data")), width() - 12, placeholder=" …")
    note(paint(f"  answer  {data}", DIM))
    if said:
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        note(paint(f"  error   {said[0]}{more}", DIM))


def show_events(events: Iterable[Event], known: set[str]) -> None:
    """
    Show events as they come: a pipe gets the lines, people what is new to them.

    Args:
        known: Fingerprints that were shown in full before; they are shown in one line.
    """
    shown: Counter[str] = Counter()
    for event in events:
        fingerprint = event.get("async_guard.fingerprint", "")
        if not FOR_PEOPLE:
            print(event.raw, flush=True)
        elif is_hit(event):
            if fingerprint not in shown:
                show_hit(event, in_full=fingerprint not in known)
            known.add(fingerprint)
            shown[fingerprint] += 1
        elif fingerprint:
            counted = f"{event['async_guard.count']} more of {fingerprint}, only counted"
            print(paint(f"  summary {counted}", DIM), flush=True)
    if more := shown.total() - len(shown):
        print(paint(f"  … and {more} more like it", DIM), flush=True)


def show_hit(hit: Event, *, in_full: bool) -> None:
    outcome = paint(hit["async_guard.outcome"], BOLD, RED)
    print(f"  {outcome} {paint(relation(hit), BOLD)} {paint(call_site(hit), CYAN)}", flush=True)
    if in_full:
        print(f"    {paint(hit['async_guard.code.text'], YELLOW)}")
        print(paint(advice(hit), GREEN), flush=True)


def advice(hit: Event) -> str:
    return indented(hit.get("async_guard.advice") or "No advice.")


def show_report(hits: Path) -> None:
    """Show what the project's own tool makes of the log, and keep it as a page."""
    REPORT.parent.mkdir(exist_ok=True)
    print(flush=True)
    report = [sys.executable, "-m", "async_guard", "report", str(hits)]
    for command in (report, [*report, "-o", str(REPORT)]):
        if subprocess.run(command).returncode:
            raise DemoFailed(f"“{' '.join(command[1:])}” failed.")
    note(f"\nThe same as a page: {REPORT}")


# ── the demo ─────────────────────────────────────────────────────────────────────────


def run_broken(api: Api, log: Follower) -> None:
    """Send every operation to the code with the failures, and show its hits."""
    known: set[str] = set()
    for step in STEPS:
        note("\n" + paint(step.title, BOLD))
        show_answer(api.answers(BROKEN, step)[0])
        before = len(log.events)
        show_events(log.until(partial(log.has_seen, step.culprit)), known)
        check_hits(step, log, log.events[before:])


def check_hits(step: Step, log: Follower, new: list[Event]) -> None:
    if not log.has_seen(step.culprit):
        raise DemoFailed(f"“{step.title}” should have hit in {step.culprit}, but no hit came.")
    for hit in filter(is_hit, new):
        if not step.culprit or not is_hit_in(hit, step.culprit):
            raise DemoFailed(f"“{step.title}” hit unexpectedly at {call_site(hit)}.")


def run_fixed(api: Api, log: Follower) -> None:
    """Send every operation to the mended code: right answers, and silence."""
    note("\n" + paint(f"The same {len(STEPS)} operations, mended", BOLD))
    for step in STEPS:
        for answer in api.answers(FIXED, step):
            if not is_right(step, answer):
                raise DemoFailed(f"“{step.title}” has the wrong answer at {FIXED}: {answer}")
    before = len(log.events)
    show_events(log.until(lambda: True), set())
    for hit in filter(is_hit, log.events[before:]):
        raise DemoFailed(f"The mended code hit at {call_site(hit)}.")
    note("  right answers, no hits")


def is_right(step: Step, answer: dict[str, Any]) -> bool:
    with suppress(LookupError, TypeError):  # a null where something was to be read
        return not answer.get("errors") and bool(step.right(answer["data"]))
    return False


def check_totals(log: Follower) -> None:
    """Wait until every hit has been told, in a line of its own or in a summary."""
    expected: Counter[str] = Counter()
    for step in STEPS:
        expected[step.culprit] += step.hits * step.clients if step.culprit else 0
    show_events(log.until(lambda: told(log) >= expected), set())
    for culprit, count in (told(log) - expected | expected - told(log)).items():
        raise DemoFailed(f"The totals in {culprit} are wrong by {count}.")


def told(log: Follower) -> Counter[str]:
    """Add up the hits by the function that made them."""
    counts: Counter[str] = Counter()
    for problem in log.problems():
        for step in {step.culprit for step in STEPS if step.culprit}:
            if is_hit_in(problem.hits[0], step):
                counts[step] += problem.count
    return counts


def run() -> None:
    with TemporaryDirectory(prefix="async-guard-demo-") as folder:
        site = Site(Path(folder))
        log = Follower(site.hits)
        note("Making a database and starting uvicorn with two workers …")
        site.manage("migrate", "--verbosity", "0")
        site.manage("seed")
        with site.served() as api:
            run_broken(api, log)
            run_fixed(api, log)
            check_totals(log)
        check_totals(log)  # again: stopping must not tell anything twice
        show_report(site.hits)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(143))  # so that `finally` runs
    try:
        run()
    except DemoFailed as failed:
        print(f"demo: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `demo.py | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
