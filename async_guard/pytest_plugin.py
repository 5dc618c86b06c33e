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
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from async_guard.hit import Hit

OFF, WARN, FAIL = "off", "warn", "fail"
_IS_PART = "async_guard_is_part"
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
    if config.getoption("--async-guard-update-baseline") and not config.getini(
        "async_guard_baseline"
    ):
        raise pytest.UsageError("--async-guard-update-baseline needs async_guard_baseline.")
    if config.getoption("--async-guard") != OFF or config.getoption(
        "--async-guard-update-baseline"
    ):
        config.pluginmanager.register(Watch(config), "async_guard_watch")


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
        self._seen = _Seen()
        self._is_part = False

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
        return (yield)

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
        allowed = _allowed(item)
        new = []
        for hit in hits:
            patterns = [each for each in allowed if _matches(hit, each)]
            is_new = not patterns and hit.fingerprint not in self._known
            self._new.append(_told(hit, is_new, patterns))
            new += [hit] if is_new else []
        return new

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
        allow = _allowed(item) if has_run else []
        if seen or allow:
            vars(report)["async_guard"] = {"hits": seen, "allow": allow}
        return report

    # --- gathering -----------------------------------------------------------------------------

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._is_part = self._is_part or bool(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._is_worker:
            self._seen.add(report.nodeid, getattr(report, "async_guard", {}))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker of pytest-xdist, which alone knows what was deselected there."""
        self._is_part = self._is_part or getattr(node, "workeroutput", {}).get(_IS_PART, False)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._is_worker:
            self._config.workeroutput[_IS_PART] = self._is_part  # type: ignore[attr-defined]
        if self._updates and not self._is_worker and self._path is not None:
            from async_guard.logs.baseline import Baseline, save_baseline

            kept = {} if self._is_full(exitstatus) else self._known
            save_baseline(str(self._path), Baseline({**kept, **self._seen.words}))

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        lines = [*self._seen.lines(), *self._unused(exitstatus)]
        if self._updates:
            lines.append(f"The baseline {self._path} is written.")
        if lines:
            terminalreporter.section("async_guard")
            for line in lines:
                terminalreporter.line(line)

    def _unused(self, exitstatus: int) -> Iterator[str]:
        """Say what is allowed and never hit, where all tests have run and are green."""
        if not self._is_full(exitstatus) or self._updates:
            return
        for fingerprint in sorted(set(self._known) - set(self._seen.words)):
            yield f"Known, but not hit any more: {fingerprint} {self._known[fingerprint]}"
        for test, pattern in self._seen.unused():
            yield f"Allowed, but not hit: {pattern!r} in {test}"

    def _is_full(self, exitstatus: int) -> bool:
        option = self._config.option
        narrowed = (
            *("keyword", "markexpr", "lf", "failedfirst", "stepwise", "deselect", "ignore"),
            *("ignore_glob", "collectonly", "setuponly", "setupplan"),
        )
        by_paths = self._config.args_source == pytest.Config.ArgsSource.ARGS
        is_part = self._is_part or by_paths or any(getattr(option, each, None) for each in narrowed)
        return int(exitstatus) == 0 and not is_part


class _Seen:
    """What all tests have seen, by fingerprint."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._tests: dict[str, dict[str, None]] = defaultdict(dict)
        self._allow: dict[tuple[str, str], bool] = {}

    def add(self, test: str, told: dict[str, Any]) -> None:
        for pattern in told.get("allow", ()):
            self._allow.setdefault((test, pattern), False)
        for hit in told.get("hits", ()):
            fingerprint = hit["fingerprint"]
            self._allow.update({(test, pattern): True for pattern in hit["allowed"]})
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


def _told(hit: Hit, is_new: bool, allowed: list[str]) -> dict[str, Any]:
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


def _allowed(item: pytest.Item) -> list[str]:
    return [
        str(pattern)
        for marker in item.iter_markers("async_guard")
        for pattern in _patterns(marker.kwargs.get("allow", ()))
    ]


def _patterns(allow: Any) -> Any:
    """Return one pattern without its list in a list: of its letters, ``*`` would allow all."""
    return (allow,) if isinstance(allow, str) else allow


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
    folder = config.inipath.parent if config.inipath else config.rootpath
    return folder / name if name else None


def _read(path: Path | None) -> dict[str, str]:
    if path is None or not path.exists():
        return {}
    from async_guard.logs.baseline import load_baseline
    from async_guard.logs.failures import CommandFailed

    try:
        return dict(load_baseline(str(path)).known)
    except CommandFailed as error:
        raise pytest.UsageError(str(error)) from error
