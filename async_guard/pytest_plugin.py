"""
pytest plugin: every test answers for the hits that happened in it, also for swallowed ones.

Off until asked: ``--async-guard=warn`` lists the hits at the end, ``--async-guard=fail`` lets the
test fail. Every test run of every project that has async_guard imports this file, so it imports
nothing but pytest. What was seen travels with the test's reports, so it arrives from the workers of
pytest-xdist as soon as the test has run, and is not lost with a worker.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from async_guard.hit import Hit

OFF, WARN, FAIL = "off", "warn", "fail"
_IS_PART = "async_guard_is_part"
_NARROWING = ("keyword", "markexpr", "lf", "stepwise")
_NARROWING_INI = (
    *("testpaths", "norecursedirs", "python_files", "python_classes", "python_functions"),
    "collect_imported_tests",
)
_COLLECTORS = ("no:python", "no:unittest", "no:doctest")
_MARKER = (
    "async_guard(allow=[...]): hits that the test may have, as fnmatch patterns over relation, "
    "model, path, path:line, function, rule and fingerprint"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("async_guard", "async_guard: async-unsafe access to the database")
    group.addoption(
        "--async-guard",
        choices=(OFF, WARN, FAIL),
        default=OFF,
        help="watch the tests, and list what was hit (warn) or let the test fail (default: off)",
    )
    group.addoption(
        "--async-guard-update-baseline",
        action="store_true",
        help="write the baseline: what is hit now is known from now on",
    )
    parser.addini("async_guard_baseline", "file with the fingerprints of known hits", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    if config.getoption("--async-guard-update-baseline"):
        _check_baseline(_baseline_path(config))
    if config.getoption("--async-guard") != OFF or config.getoption(
        "--async-guard-update-baseline"
    ):
        config.pluginmanager.register(Watch(config), "async_guard_watch")


def _check_baseline(path: Path | None) -> None:
    """Refuse before the tests run what would be known only after them."""
    if path is None:
        raise pytest.UsageError("--async-guard-update-baseline needs async_guard_baseline.")
    if not path.parent.is_dir():
        raise pytest.UsageError(
            f"async_guard_baseline is {path}, and there is no folder {path.parent}: make it first."
        )


@pytest.fixture
def async_guard_hits(request: pytest.FixtureRequest) -> Iterator[Hits]:
    """The hits of this test so far; complete whenever it is looked at."""
    watch = request.config.pluginmanager.get_plugin("async_guard_watch")
    if isinstance(watch, Watch) and watch.is_watching:
        yield Hits(watch.current)
        return
    from async_guard.testing import capture_hits

    with capture_hits() as hits:
        yield Hits(hits)


class Hits(Sequence["Hit"]):
    """A list of hits that waits for what is not delivered yet."""

    def __init__(self, hits: list[Hit]) -> None:
        self._hits = hits

    def _all(self) -> list[Hit]:
        from async_guard.guard import flush

        flush()
        return self._hits

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (list(other) if isinstance(other, Hits) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([hit.message for hit in self._all()])


class Watch:
    """Watches the tests of one process, and in the main one gathers what all have seen."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._updates = bool(config.getoption("--async-guard-update-baseline"))
        self._fails = config.getoption("--async-guard") == FAIL and not self._updates
        self._path = _baseline_path(config)
        self._known = _read(self._path)
        self._is_worker = hasattr(config, "workerinput")
        self._only_gathers = not self._is_worker and config.getoption("dist", "no") != "no"
        self.is_watching = False
        self.current: list[Hit] = []
        self._new: list[dict[str, Any]] = []
        self._told = 0
        self._places: dict[int, str] = {}
        self._seen = _Seen()
        self._is_part = False
        self._is_full = False
        self._failed = ""

    # --- watching ------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        if self._only_gathers or not _has_django():
            return (yield)
        from async_guard.guard import guard

        with contextlib.ExitStack() as stack:
            stack.enter_context(guard.guarded())
            guard.add_sink(self._collect)
            stack.callback(guard.remove_sink, self._collect)
            self.is_watching = True
            stack.callback(setattr, self, "is_watching", False)
            return (yield)

    def _collect(self, hit: Hit, /) -> None:
        self.current.append(hit)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._flush()
        self.current.clear()
        self._new, self._told = [], 0
        result = yield
        for mark in item.iter_markers("async_guard"):
            _check_marker(mark)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._checked(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._checked(item))

    def _checked(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let the phase run, then let the test fail for its hits, unless it has failed anyway."""
        try:
            result = yield
        except BaseException:
            self._take(item)
            raise
        new = self._take(item)
        if new and self._fails:
            pytest.fail(_sentences(new), pytrace=False)
        return result

    def _take(self, item: pytest.Item) -> list[Hit]:
        """Return the hits since the last phase that are neither known nor allowed."""
        self._flush()
        hits = [hit for hit in self.current[self._told :] if hit.outcome != "handled"]
        self._told = len(self.current)
        allowed = self._allowed(item)
        new = []
        for hit in hits:
            by = [(place, pattern) for place, pattern in allowed if _matches(hit, pattern)]
            is_new = not by and hit.fingerprint not in self._known
            self._new.append(_told(hit, is_new, by))
            new += [hit] if is_new else []
        return new

    def _allowed(self, item: pytest.Item) -> list[tuple[str, str]]:
        """Return each pattern, and where its marker is: a module's is one for all of its tests."""
        return [
            (self._places.get(id(mark), node.nodeid), pattern)
            for node, mark in item.iter_markers_with_node("async_guard")
            for pattern in _patterns(mark) or ()
        ]

    def _flush(self) -> None:
        if self.is_watching:
            from async_guard.guard import flush

            flush()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        seen, self._new = self._new, []
        has_run = call.when == "call" and report.passed  # one that is skipped could not be hit
        allow = self._allowed(item) if has_run else []
        if seen or allow:
            vars(report)["async_guard"] = {"hits": seen, "allow": allow}
        return report

    # --- gathering -----------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_ignore_collect(
        self, collection_path: Path, config: pytest.Config
    ) -> Generator[None, bool | None, bool | None]:
        is_ignored = yield
        if is_ignored and not _is_never_collected(collection_path, config):
            self._is_part = True
        return is_ignored

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._is_part = self._is_part or not report.passed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Notice also what is left out by those who tell nobody that they deselect."""
        before = len(items)
        result = yield
        self._is_part = self._is_part or len(items) < before
        return result

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Name a marker by the first that it is on: all workers of pytest-xdist collect alike."""
        for item in session.items:
            for node, mark in item.iter_markers_with_node("async_guard"):
                self._places.setdefault(id(mark), node.nodeid)

    def pytest_keyboard_interrupt(self) -> None:
        """Notice also ``pytest.exit()`` of a status that says that all is well."""
        self._is_part = True

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._is_part = self._is_part or bool(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._is_worker:
            self._seen.add(report.nodeid, getattr(report, "async_guard", {}))
            self._is_part = self._is_part or report.outcome in ("failed", "skipped")
            if report.when == "call":
                self._seen.tests.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker of pytest-xdist, which alone knows what was left out there."""
        self._is_part = self._is_part or getattr(node, "workeroutput", {}).get(_IS_PART, True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._is_worker:
            self._config.workeroutput[_IS_PART] = self._is_part  # type: ignore[attr-defined]
            return
        has_run = 0 < session.testscollected == len(self._seen.tests)
        is_green = int(exitstatus) == 0 and not self._is_part
        self._is_full = has_run and is_green and _is_whole(self._config)
        if self._updates and not self._save():
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _save(self) -> bool:
        from async_guard.logs.baseline import Baseline, save_baseline
        from async_guard.logs.failures import CommandFailed

        kept = {} if self._is_full else self._known
        try:
            save_baseline(str(self._path), Baseline({**kept, **self._seen.words}))
        except CommandFailed as failed:
            self._failed = str(failed)
        return not self._failed

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        lines = [*self._seen.lines(), *(self._updated() if self._updates else self._unused())]
        if lines:
            terminalreporter.section("async_guard")
            for line in lines:
                terminalreporter.line(line)

    def _updated(self) -> Iterator[str]:
        if self._failed:
            yield self._failed
            return
        yield f"The baseline {self._path} is written."
        if not self._is_full and (kept := len(set(self._known) - set(self._seen.words))):
            yield (
                f"Of what it knew, {kept} was not hit and stays: only a run in which every test "
                "of the project passes takes something out."
            )

    def _unused(self) -> Iterator[str]:
        """Say what is allowed and never hit, where all tests have run and are green."""
        if not self._is_full:
            return
        for fingerprint in sorted(set(self._known) - set(self._seen.words)):
            yield f"Known, but not hit any more: {fingerprint} {self._known[fingerprint]}"
        for place, pattern in self._seen.unused():
            yield f"Allowed, but not hit: {pattern!r} in {place}"


class _Seen:
    """What all tests have seen, by fingerprint."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.tests: set[str] = set()
        self._new: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._tests: dict[str, dict[str, None]] = defaultdict(dict)
        self._allow: dict[tuple[str, str], bool] = {}

    def add(self, test: str, told: dict[str, Any]) -> None:
        for place, pattern in told.get("allow", ()):
            self._allow.setdefault((place, pattern), False)
        for hit in told.get("hits", ()):
            fingerprint = hit["fingerprint"]
            self._allow.update(dict.fromkeys(hit["allowed"], True))
            if not hit["allowed"]:
                self.words[fingerprint] = hit["words"]
            if hit["is_new"]:
                self._new[fingerprint] = hit["message"]
                self._counts[fingerprint] += hit["count"]
                self._tests[fingerprint][test] = None

    def lines(self) -> Iterator[str]:
        for fingerprint, message in sorted(self._new.items()):
            yield f"{fingerprint} ×{self._counts[fingerprint]} {message}"
            yield from (f"    {test}" for test in self._tests[fingerprint])

    def unused(self) -> list[tuple[str, str]]:
        return [key for key, is_used in self._allow.items() if not is_used]


# --- one hit -----------------------------------------------------------------------------------


def _told(hit: Hit, is_new: bool, allowed: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what the main process needs to know; it may come from a worker."""
    return {
        "fingerprint": hit.fingerprint,
        "message": hit.message,
        "count": hit.count,
        "words": f"{hit.rule} {hit.function}: {' '.join(hit.text.split())}",
        "is_new": is_new,
        "allowed": allowed,
    }


def _sentences(hits: Sequence[Hit]) -> str:
    counts = Counter({hit.fingerprint: 0 for hit in hits})
    messages = {hit.fingerprint: hit.message for hit in hits}
    for hit in hits:
        counts[hit.fingerprint] += hit.count
    lines = [f"{counts[key]} × {key} {messages[key]}" for key in messages]
    return "\n".join(["The test accessed the database while the event loop runs:", *lines])


def _check_marker(mark: pytest.Mark) -> None:
    """Let a test fail whose marker would allow nothing, or something else than it says."""
    if mark.args or mark.kwargs.keys() - {"allow"} or _patterns(mark) is None:
        given = [*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())]
        pytest.fail(
            f"@pytest.mark.async_guard({', '.join(given)}) of this test is not understood: "
            'write allow=["pattern", ...].',
            pytrace=False,
        )


def _patterns(mark: pytest.Mark) -> list[str] | None:
    """Return what *mark* allows, also one pattern without its list; None: it is no pattern."""
    allow = mark.kwargs.get("allow", ())
    if isinstance(allow, str):
        return [allow]
    is_list = isinstance(allow, Collection) and all(isinstance(each, str) for each in allow)
    return list(allow) if is_list else None


def _matches(hit: Hit, pattern: str) -> bool:
    names = (hit.relation, hit.orm_model, hit.path, f"{hit.path}:{hit.line}", hit.function)
    return any(
        name is not None and fnmatch.fnmatchcase(name, pattern)
        for name in (*names, hit.rule, hit.fingerprint)
    )


# --- the surroundings --------------------------------------------------------------------------


def _has_django() -> bool:
    """Tell whether there is a Django project to watch: pytest-django, or the tests, set it up."""
    from django.apps import apps

    return apps.ready


def _baseline_path(config: pytest.Config) -> Path | None:
    name = str(config.getini("async_guard_baseline"))
    return _folder(config) / name if name else None


def _folder(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath else config.rootpath


def _read(path: Path | None) -> dict[str, str]:
    if path is None or not path.exists():
        return {}
    from async_guard.logs.baseline import load_baseline
    from async_guard.logs.failures import CommandFailed

    try:
        return dict(load_baseline(str(path)).known)
    except CommandFailed as error:
        raise pytest.UsageError(str(error)) from error


# --- which tests there are ---------------------------------------------------------------------


def _is_whole(config: pytest.Config) -> bool:
    """Tell whether the command line asks for all tests that the project has."""
    option = config.option
    if any(getattr(option, each, None) for each in _NARROWING):
        return False
    if any(each.partition("=")[0] in _NARROWING_INI for each in option.override_ini or ()):
        return False
    if any(each in _COLLECTORS for each in option.plugins or ()):
        return False
    if config.args_source == pytest.Config.ArgsSource.TESTPATHS:
        return True
    asked = [(config.invocation_params.dir / each).resolve() for each in config.args]
    return all(any(path.is_relative_to(each) for each in asked) for path in _test_paths(config))


def _test_paths(config: pytest.Config) -> list[Path]:
    root = config.rootpath
    patterns = config.getini("testpaths")
    names = [name for each in patterns for name in glob.glob(each, root_dir=root, recursive=True)]
    return [(root / each).resolve() for each in names] or [_folder(config).resolve()]


def _is_never_collected(path: Path, config: pytest.Config) -> bool:
    """Tell whether pytest passes *path* by in every run: caches, environments, norecursedirs."""
    if path.name == "__pycache__":
        return True
    environment = ("pyvenv.cfg", "conda-meta/history")
    is_environment = any((path / each).is_file() for each in environment)
    names = config.getini("norecursedirs")
    return is_environment or (path.is_dir() and any(path.match(each) for each in names))
