"""The pytest plugin, in projects of its own, each run by a pytest of its own."""

import json

import pytest

from tests.counted import counted

SETTINGS = """
SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "async_guard"]
ASYNC_GUARD = {"ENABLED": False}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
INI = """
[pytest]
DJANGO_SETTINGS_MODULE = site_settings
pythonpath = .
asyncio_default_fixture_loop_scope = function
async_guard_baseline = known.json
"""
CODE = """
from django.contrib.auth.models import Group, User


async def swallow():
    try:
        list(Group.objects.all())
    except Exception:
        pass


async def swallow_users():
    try:
        User.objects.count()
    except Exception:
        pass


async def fine():
    return await Group.objects.acount()
"""
TESTS = """
import pytest

from views import fine, swallow, swallow_users

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


async def test_swallows():
    await swallow()


async def test_fine():
    await fine()
"""


@pytest.fixture
def is_counted(monkeypatch):
    """The plugin runs nowhere else; to count all of these runs would take twice the time."""
    for name, value in counted().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def project(pytester):
    pytester.makepyfile(site_settings=SETTINGS, views=CODE, test_it=TESTS)
    pytester.makeini(INI)
    pytester.plugins.clear()
    return pytester


def run(project, *args):
    return project.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *args)


def known(project):
    return json.loads((project.path / "known.json").read_text())


def test_off(project):
    """
    Nobody who has not asked for it notices that the plugin is there.
    """
    result = run(project)

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*async_guard*fingerprint*")
    result.stdout.no_fnmatch_line("*= async_guard =*")


def test_warn(project):
    """
    With warn a hit is told with its test, and nothing fails.
    """
    result = run(project, "--async-guard=warn")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*= async_guard =*",
            "* ×1 views.swallow evaluated a Group queryset*",
            "    *::test_swallows",
        ]
    )


@pytest.mark.usefixtures("is_counted")
def test_fail(project):
    """
    With fail a test with a hit fails, also where the exception was swallowed; others do not.
    """
    result = run(project, "--async-guard=fail")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "The test accessed the database while the event loop runs:",
            "1 × * views.swallow evaluated a Group queryset*",
        ]
    )


def test_random_order_of_several(project):
    """
    In whatever order, the hits are those of their test.
    """
    project.makepyfile(
        test_it=TESTS + "\n\nasync def test_users():\n    await swallow_users()\n"
        "    await swallow_users()\n"
    )

    for seed in ("1", "2", "3"):
        result = project.runpytest_subprocess(
            "--async-guard=fail", "-p", "no:cacheprovider", f"--randomly-seed={seed}"
        )
        result.assert_outcomes(passed=1, failed=2)
        result.stdout.fnmatch_lines(["2 × * views.swallow_users called User.count*"])


def test_fixtures(project):
    """
    A hit in a fixture's set-up fails the test, one in its end is an error of the test.
    """
    project.makepyfile(
        test_it="""
        import pytest
        import pytest_asyncio

        from views import fine, swallow, swallow_users

        pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]

        @pytest_asyncio.fixture
        async def before():
            await swallow()

        @pytest_asyncio.fixture
        async def after():
            yield
            await swallow_users()

        async def test_before(before):
            pass

        async def test_after(after):
            pass
        """
    )

    result = run(project, "--async-guard=fail")

    result.assert_outcomes(passed=1, failed=1, errors=1)


@pytest.mark.usefixtures("is_counted")
def test_failing_test(project):
    """
    A test that fails anyway keeps its own failure; its hits are listed.
    """
    project.makepyfile(
        test_it=TESTS.replace("await swallow()", "await swallow()\n    assert 1 == 2")
    )

    result = run(project, "--async-guard=fail")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*", "* ×1 views.swallow evaluated*"])


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize(
    ("mark", "outcomes"),
    [("xfail(strict=True)", {"xfailed": 1}), ("xfail(raises=ValueError)", {"failed": 1})],
)
def test_expected_failure(mark, outcomes, project):
    """
    A hit fails its test as an assertion does: who expects any failure also expects this one.
    """
    marker = f"@pytest.mark.{mark}\nasync def test_swallows"
    project.makepyfile(test_it=TESTS.replace("async def test_swallows", marker))

    result = run(project, "--async-guard=fail")

    result.assert_outcomes(passed=1, **outcomes)
    result.stdout.fnmatch_lines(["* ×1 views.swallow evaluated a Group queryset*"])


@pytest.mark.parametrize("pattern", ["views.swallow", "auth.Group", "AG106", "views.py:*"])
def test_allow(pattern, project):
    """
    What the marker allows fails nothing.
    """
    marker = f"@pytest.mark.async_guard(allow=[{pattern!r}])\nasync def test_swallows"
    project.makepyfile(test_it=TESTS.replace("async def test_swallows", marker))

    result = run(project, "--async-guard=fail", "--strict-markers")

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*Allowed, but not hit*")


def test_unused_allowance(project):
    """
    What is allowed and never hit is told, but not where only some tests have run, or one failed.
    """
    marker = "@pytest.mark.async_guard(allow=['no.such'])\nasync def test_fine"
    project.makepyfile(test_it=TESTS.replace("async def test_fine", marker))
    said = "Allowed, but not hit: 'no.such' in test_it.py::test_fine"

    run(project, "--async-guard=warn").stdout.fnmatch_lines([said])
    run(project, "--async-guard=warn", "-n2").stdout.fnmatch_lines([said])
    for args in (["-k", "fine"], ["test_it.py"], ["--async-guard=fail"], ["-x", "-m", "asyncio"]):
        run(project, "--async-guard=warn", *args).stdout.no_fnmatch_line(said)


SHARED = """
import pytest

from views import fine, swallow, swallow_users

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.django_db(transaction=True),
    pytest.mark.async_guard(allow=["views.swallow", "no.such"]),
]


@pytest.mark.async_guard(allow=["auth.User", "nor.such"])
@pytest.mark.parametrize("function", [fine, swallow, swallow_users])
async def test_each(function):
    await function()


async def test_fine():
    await fine()
"""


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_allowance_of_several_tests(workers, project):
    """
    What is allowed for several tests is unused where none of them has used it, and told once.
    """
    project.makepyfile(test_it=SHARED)

    result = run(project, "--async-guard=fail", workers)

    result.assert_outcomes(passed=4)
    told = [line for line in result.outlines if line.startswith("Allowed, but not hit: ")]
    assert sorted(told) == [
        "Allowed, but not hit: 'no.such' in test_it.py",
        "Allowed, but not hit: 'nor.such' in test_it.py::test_each[fine]",
    ]


def test_allowance_of_a_skipped_test(project):
    """
    What is allowed for a test that is skipped could not be hit.
    """
    marker = "@pytest.mark.skip\n@pytest.mark.async_guard(allow=['no.such'])\nasync def test_fine"
    project.makepyfile(test_it=TESTS.replace("async def test_fine", marker))

    run(project, "--async-guard=warn").stdout.no_fnmatch_line("Allowed, but not hit*")


@pytest.mark.usefixtures("is_counted")
def test_one_pattern_without_a_list(project):
    """
    A pattern that somebody forgot to put into a list is one, and not as many as it has letters.
    """
    marker = "@pytest.mark.async_guard(allow='{}')\nasync def test_swallows"
    fails = {}
    for pattern in ("views.sw*", "no.such*"):
        code = TESTS.replace("async def test_swallows", marker.format(pattern))
        project.makepyfile(test_it=code)
        fails[pattern] = run(project, "--async-guard=fail").parseoutcomes().get("failed", 0)

    assert fails == {"views.sw*": 0, "no.such*": 1}


@pytest.mark.usefixtures("is_counted")
def test_marker_that_is_not_understood(folders):
    """
    A marker that would allow nothing of what it says is an error of its test, in one sentence.
    """
    given = ("allow=5", "allow=None", "allow=['a', 1]", "['auth.*']", "allowed=['a']")
    tests = [
        f"@pytest.mark.async_guard({each})\ndef test_{number}():\n    pass\n"
        for number, each in enumerate(given)
    ]
    allowing = "pytestmark = pytest.mark.async_guard(allow=('a', 'b'))\n"
    files = {"a/test_a.py": "import pytest\n\n" + allowing + "\n".join(tests)}

    result = runs_folders(folders, ".", ["--async-guard=warn"], files)

    result.assert_outcomes(passed=2, errors=len(given))
    said = "@pytest.mark.async_guard({}) of this test is not understood: write allow=[[]*].".format
    lines = [
        [f"*ERROR at setup of test_{number} *", said(each.replace("[", "[[]"))]
        for number, each in enumerate(given)
    ]
    result.stdout.fnmatch_lines([line for pair in lines for line in pair])
    result.stdout.no_fnmatch_line("*Traceback*")


DESELECT = """
def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        config.hook.pytest_deselected(items=items[:1])
        del items[:1]
"""


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize("args", [["--collect-only"], ["--ignore-glob=*it.py"], ["-n2"]])
def test_baseline_when_tests_do_not_run(args, project):
    """
    What only tests hit that were collected, ignored, or deselected by a worker, is still known.
    """
    run(project, "--async-guard-update-baseline")
    before = known(project)
    project.makepyfile(test_other="def test_other():\n    pass\n")
    if args == ["-n2"]:
        project.makeconftest(DESELECT)

    result = run(project, "--async-guard-update-baseline", *args)

    assert result.ret == 0
    assert known(project) == before


@pytest.mark.usefixtures("is_counted")
def test_baseline(project):
    """
    What the baseline knows fails nothing; what is new does, and what is gone is told.
    """
    written = run(project, "--async-guard-update-baseline")
    again = run(project, "--async-guard=fail")
    [[fingerprint, words], _] = known(project).items()
    project.makepyfile(views=CODE.replace("list(Group.objects.all())", "Group.objects.count()"))
    new = run(project, "--async-guard=fail")
    project.makepyfile(test_it=TESTS.replace("await swallow()", "await fine()"))
    gone = run(project, "--async-guard=fail")

    written.assert_outcomes(passed=2)
    again.assert_outcomes(passed=2)
    assert words == "AG106 views.swallow: list(Group.objects.all())"
    new.assert_outcomes(passed=1, failed=1)
    gone.assert_outcomes(passed=2)
    gone.stdout.fnmatch_lines([f"Known, but not hit any more: {fingerprint} {words}"])


def test_baseline_of_some_tests(project):
    """
    A run of some tests adds to the baseline; a full one says what it is.
    """
    project.makepyfile(test_it=TESTS + "\n\nasync def test_users():\n    await swallow_users()\n")

    run(project, "--async-guard-update-baseline", "-k", "users")
    first = known(project)
    run(project, "--async-guard-update-baseline", "-k", "swallows")
    both = known(project)
    project.makepyfile(test_it=TESTS)
    run(project, "--async-guard-update-baseline")

    assert [len(first), len(both), len(known(project))] == [2, 3, 2]
    assert list(both)[-1] == "version"


GONE = {"0" * 16: "what nothing hits"}
INI_OF_FOLDERS = "[pytest]\nasync_guard_baseline = known.json\n"
TEST = "def test_one():\n    pass\n\n\ndef test_two():\n    pass\n"
SKIPPED = "import pytest\n\npytest.importorskip('no_such_module')\n"
XFAILED = "import pytest\n\n\n@pytest.mark.xfail\ndef test_one():\n    assert 1 == 2\n"
LAST_FAILED = ".pytest_cache/v/cache/lastfailed"
UNTOLD = "def pytest_collection_modifyitems(items):\n    del items[0]\n"
CONTINUED = ["--continue-on-collection-errors"]
FAILS_THE_RUN = """
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    yield
    session.testsfailed = 1
    return True
"""
LEAVES_LATE = (
    TEST + "\n\ndef teardown_module():\n    import pytest\n    pytest.exit('', returncode=0)\n"
)
LEAVES = "import pytest\n\n\ndef test_one():\n    pytest.exit('', returncode=0)\n"


@pytest.fixture
def folders(pytester):
    """Tests in two folders, and a baseline with what they do not hit."""
    pytester.makeini(INI_OF_FOLDERS)
    for name in ("a", "b"):
        (pytester.mkdir(name) / f"test_{name}.py").write_text(TEST)
    (pytester.path / "known.json").write_text(json.dumps({**GONE, "version": 1}))
    pytester.plugins.clear()
    return pytester


def runs_folders(project, folder, args, files):
    for name, text in files.items():
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / name).write_text(text)
    without = [f"-pno:{each}" for each in ("django", "asyncio", "randomly")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.path / folder)
        return project.runpytest_subprocess(*without, *args)


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize(
    ("folder", "args", "files"),
    [
        (".", [], {}),
        (".", ["."], {}),
        ("b", [".."], {}),
        (".", ["a", "b"], {"pytest.ini": INI_OF_FOLDERS + "testpaths = a b\n"}),
        (".", [], {"pytest.ini": INI_OF_FOLDERS + "testpaths = a\n"}),
        (".", ["--ff"], {}),
        (".", ["-n2"], {}),
        (".", [], {"a/__pycache__/x": "", "b/pyvenv.cfg": ""}),
        (".", [], {"pytest.ini": INI_OF_FOLDERS + "norecursedirs = b\n"}),
    ],
)
def test_whole_run(folder, args, files, folders):
    """
    A run of all tests takes out of the baseline what is not hit any more.
    """
    result = runs_folders(folders, folder, ["--async-guard-update-baseline", *args], files)

    assert result.ret == 0
    assert known(folders) == {"version": 1}
    result.stdout.no_fnmatch_line("Of what it knew*")


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize(
    ("folder", "args", "files"),
    [
        ("b", [], {}),
        ("b", ["--rootdir=."], {}),
        (".", ["a"], {}),
        (".", ["a/test_a.py::test_one", "b"], {}),
        (".", ["b"], {"pytest.ini": INI_OF_FOLDERS + "testpaths = a b\n"}),
        (".", ["-o", "testpaths=b"], {}),
        (".", ["-o", "norecursedirs=b"], {}),
        (".", ["-k", "one"], {}),
        (".", ["-m", "not slow"], {}),
        (".", ["--deselect=a"], {}),
        (".", ["--lf"], {LAST_FAILED: '{"a/test_a.py::test_one": true}'}),
        (".", ["--ignore=b"], {}),
        (".", ["--ignore-glob=*b.py"], {}),
        (".", ["-n2", "--ignore=b"], {}),
        (".", ["--collect-only"], {}),
        (".", ["--setup-plan"], {}),
        (".", ["--fixtures"], {}),
        (".", ["-p", "no:unittest"], {}),
        (".", [], {"conftest.py": "collect_ignore = ['b']\n"}),
        (".", [], {"conftest.py": "collect_ignore_glob = ['*b.py']\n"}),
        (".", [], {"conftest.py": UNTOLD}),
        (".", ["-n2"], {"conftest.py": UNTOLD}),
        (".", [], {"b/test_b.py": SKIPPED}),
        (".", ["-n2"], {"b/test_b.py": SKIPPED}),
        (".", [], {"b/test_b.py": XFAILED}),
        (".", [], {"b/test_b.py": XFAILED.replace("xfail", "skip")}),
        (".", [], {"b/test_b.py": XFAILED.replace("xfail", "usefixtures('none')")}),
        (".", ["-x"], {"a/test_a.py": "def test_one():\n    assert 1 == 2\n"}),
        (".", CONTINUED, {"b/test_b.py": "assert 1 == 2\n"}),
        (".", [], {"a/test_a.py": LEAVES}),
        (".", [], {"b/test_b.py": LEAVES_LATE}),
        (".", [], {"conftest.py": FAILS_THE_RUN}),
        (".", [], {"a/test_a.py": "def test_one():\n    raise KeyboardInterrupt\n"}),
    ],
)
def test_part_of_a_run(folder, args, files, folders):
    """
    A run that leaves a test out, however it does, takes nothing out of the baseline.
    """
    result = runs_folders(folders, folder, ["--async-guard-update-baseline", *args], files)

    assert result.ret != pytest.ExitCode.USAGE_ERROR
    assert known(folders) == {**GONE, "version": 1}
    result.stdout.no_fnmatch_line("INTERNALERROR*")


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize(("folder", "tells"), [(".", True), ("b", False)])
def test_what_is_gone(folder, tells, folders):
    """
    Only a run of all tests tells what is not hit any more; one of some says what it kept.
    """
    result = runs_folders(folders, folder, ["--async-guard=fail"], {})
    updated = runs_folders(folders, folder, ["--async-guard-update-baseline"], {})

    assert ("Known, but not hit any more: 0" in result.stdout.str()) is tells
    assert ("Of what it knew, 1 was not hit and stays: " in updated.stdout.str()) is not tells


@pytest.mark.usefixtures("is_counted")
def test_broken_baseline(project):
    """
    A baseline that is none is wrong use, in one sentence.
    """
    (project.path / "known.json").write_text("[]")

    result = run(project, "--async-guard=fail")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*known.json is no baseline of version 1.*"])


@pytest.mark.usefixtures("is_counted")
def test_update_without_a_baseline(project):
    """
    So is an update of no baseline.
    """
    project.makeini(INI.replace("async_guard_baseline = known.json", ""))

    assert run(project, "--async-guard-update-baseline").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.usefixtures("is_counted")
def test_update_in_a_folder_that_is_not_there(folders):
    """
    So is an update in a folder that is missing; one that goes while the tests run is told, too.
    """
    args = ["--async-guard-update-baseline", "-o", "async_guard_baseline=new/known.json"]
    missing = runs_folders(folders, ".", args, {})
    goes = "import os\n\n\ndef test_one():\n    os.rmdir('new')\n"
    folders.mkdir("new")
    gone = runs_folders(folders, ".", args, {"a/test_a.py": goes})

    path = folders.path / "new" / "known.json"
    missing.stderr.fnmatch_lines(
        [f"ERROR: async_guard_baseline is {path}, and there is no folder {path.parent}: make it *"]
    )
    gone.stdout.fnmatch_lines([f"{path} cannot be written: No such file or directory."])
    gone.stdout.no_fnmatch_line("The baseline * is written.")
    assert [missing.ret, gone.ret] == [pytest.ExitCode.USAGE_ERROR] * 2


def test_xdist(project):
    """
    The hits of all workers come together, in the list and in the baseline.
    """
    project.makepyfile(test_it=TESTS + "\n\nasync def test_users():\n    await swallow_users()\n")

    result = run(project, "-n2", "--async-guard=fail")
    run(project, "-n2", "--async-guard-update-baseline")

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        ["* ×1 views.swallow evaluated*", "* ×1 views.swallow_users called*", "    *::test_users"]
    )
    assert len(known(project)) == 3
    run(project, "-n2", "--async-guard=fail").assert_outcomes(passed=3)


def test_anyio(project):
    """
    Tests that anyio runs are watched, too.
    """
    project.makepyfile(
        test_it="""
        import pytest

        from views import swallow

        @pytest.mark.anyio
        @pytest.mark.django_db(transaction=True)
        async def test_swallows():
            await swallow()

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )

    run(project, "--async-guard=fail", "-p", "no:asyncio").assert_outcomes(failed=1)


@pytest.mark.usefixtures("is_counted")
@pytest.mark.parametrize("mode", ["off", "warn"])
def test_hits_of_a_test(mode, project):
    """
    The fixture has the hits so far, whether the plugin is on or off.
    """
    project.makepyfile(
        test_it="""
        import pytest

        from views import swallow

        @pytest.mark.asyncio
        @pytest.mark.django_db(transaction=True)
        async def test_swallows(async_guard_hits):
            assert async_guard_hits == []
            await swallow()
            assert [hit.outcome for hit in async_guard_hits] == ["swallowed"]
            assert len(async_guard_hits) == 1
        """
    )

    run(project, f"--async-guard={mode}").assert_outcomes(passed=1)


@pytest.mark.usefixtures("is_counted")
def test_without_django(pytester):
    """
    A project without Django's settings is not disturbed.
    """
    pytester.makepyfile("def test_it():\n    pass\n")

    result = run(pytester, "--async-guard=fail", "-p", "no:django")

    result.assert_outcomes(passed=1)


def test_light(pytester):
    """
    The plugin alone imports neither Django nor the guard.
    """
    pytester.makepyfile(
        "import sys\n\n\ndef test_it():\n"
        "    assert 'async_guard.pytest_plugin' in sys.modules\n"
        "    assert not {'django.db', 'async_guard.guard'} & set(sys.modules)\n"
    )

    run(pytester, "-p", "no:django").assert_outcomes(passed=1)
