"""Whose code is it: the project's own, somebody else's, or nobody's."""

import json
import re
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import FrameType

import pytest

from async_guard import callsite
from async_guard.callsite import Edge, code_of, function_name, project_path, read_stack, site_of


@pytest.fixture(autouse=True)
def the_project():
    callsite.configure(base_dir=Path(__file__).parent.parent)
    yield
    callsite.configure(base_dir=Path(__file__).parent.parent)


def frame_of(path: Path, source: str = "import sys\nframe = sys._getframe()\n") -> FrameType:
    """Run *source* as the file *path* and return a frame of it."""
    scope = {"__name__": path.stem}
    exec(compile(source, str(path), "exec"), scope)
    frame = scope["frame"]
    assert isinstance(frame, FrameType)
    return frame


def owner(path: str | Path) -> tuple[str | None, str | None]:
    known = code_of(compile("1", str(path), "exec"))
    return known.owner, known.package


def test_site_packages():
    """
    What is installed is a dependency, whichever folder it is installed to.
    """
    purelib = sysconfig.get_paths()["purelib"]

    assert owner(f"{purelib}/somelib/x.py") == ("dependency", "somelib")
    assert owner("/usr/lib/python3/dist-packages/somelib/x.py") == ("dependency", "somelib")
    assert owner("/home/u/.local/lib/python3.11/site-packages/mod.py") == ("dependency", "mod")


def test_virtual_environment_inside_the_project(tmp_path: Path):
    """
    A ``.venv`` in the project's folder does not make libraries the project's own.
    """
    callsite.configure(base_dir=tmp_path)

    path = tmp_path / ".venv/lib/python3.11/site-packages/rest_framework_simplejwt/tokens.py"

    assert owner(path) == ("dependency", "rest_framework_simplejwt")


def test_frameworks():
    """
    Django and the GraphQL libraries are told from other dependencies.
    """
    import asgiref
    import django
    import strawberry

    assert owner(django.__file__) == ("framework", "django")
    assert owner(asgiref.__file__ or f"{asgiref.__path__[0]}/sync.py") == ("framework", "asgiref")
    assert owner(strawberry.__file__) == ("framework", "strawberry")


@pytest.mark.parametrize(
    "path",
    ["<string>", "<frozen importlib._bootstrap>", "<attrs generated init x>", "", "made_up.py"],
)
def test_generated(path: str):
    """
    Code that stands in no file is nobody's.
    """
    assert owner(path) == (None, None)


def test_standard_library():
    """
    The interpreter's own code is nobody's.
    """
    import contextlib

    assert owner(contextlib.__file__) == (None, None)


def test_ours():
    """
    The guard never reports itself.
    """
    assert owner(callsite.__file__) == (None, None)


def test_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A library that is imported from a zip archive is a dependency.
    """
    archive = tmp_path / "vendor" / "zipped.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zippedlib/__init__.py", "import sys\ndef frame(): return sys._getframe()\n")
    monkeypatch.syspath_prepend(str(archive))
    callsite.configure(base_dir=tmp_path)
    import zippedlib  # type: ignore[import-not-found]

    assert owner(zippedlib.frame().f_code.co_filename) == ("dependency", "zippedlib")
    sys.modules.pop("zippedlib")


def test_project_in_a_zip(tmp_path: Path):
    """
    A project that runs out of an archive is still the project.
    """
    callsite.configure(base_dir=tmp_path / "app.pyz" / "shop")

    assert owner(tmp_path / "app.pyz/shop/views.py") == ("app", None)


def test_editable_install_of_a_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A library that is installed with ``pip install -e`` is a dependency, wherever it lies.
    """
    library = tmp_path / "src" / "mylib"
    installed = tmp_path / "site-packages"
    record = installed / "mylib-1.0.dist-info" / "direct_url.json"
    record.parent.mkdir(parents=True)
    entry = {"url": library.as_uri(), "dir_info": {"editable": True}}
    record.write_text(json.dumps(entry))
    broken = installed / "other-1.0.dist-info" / "direct_url.json"
    broken.parent.mkdir()
    broken.write_text("{")
    monkeypatch.syspath_prepend(str(installed))

    callsite.configure(base_dir=tmp_path / "project")

    assert owner(library / "src/mylib/core.py") == ("dependency", "mylib")
    assert owner(tmp_path / "project/views.py") == ("app", None)


def test_editable_install_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A project that is itself installed with ``pip install -e`` stays the project.
    """
    installed = tmp_path / "site-packages"
    record = installed / "shop-1.0.dist-info" / "direct_url.json"
    record.parent.mkdir(parents=True)
    entry = {"url": (tmp_path / "repo").as_uri(), "dir_info": {"editable": True}}
    record.write_text(json.dumps(entry))
    monkeypatch.syspath_prepend(str(installed))

    callsite.configure(base_dir=tmp_path / "repo" / "shop")

    assert owner(tmp_path / "repo/shop/views.py") == ("app", None)


def test_settings_decide(tmp_path: Path):
    """
    ``PROJECT_PATHS`` and ``LIBRARY_PATHS`` say what the folders do not.
    """
    mine = tmp_path / "site-packages" / "shop"
    theirs = tmp_path / "vendored"

    callsite.configure(base_dir=tmp_path, project_paths=[str(mine)], library_paths=[str(theirs)])

    assert owner(mine / "views.py") == ("app", None)
    assert owner(theirs / "lib/x.py") == ("dependency", "lib") or owner(theirs / "lib/x.py") == (
        "dependency",
        "x",
    )


def test_project_path(tmp_path: Path):
    """
    Paths are relative to the project where they lie in it.
    """
    callsite.configure(base_dir=tmp_path)

    assert project_path(str(tmp_path / "shop" / "views.py")) == "shop/views.py"
    assert project_path("/elsewhere/x.py") == "/elsewhere/x.py"


def test_lone_surrogates(tmp_path: Path):
    """
    A file name that is no text becomes one.
    """
    callsite.configure(base_dir=tmp_path)

    assert project_path(str(tmp_path / "a\udcff.py")) == r"a\udcff.py"


def test_function_name():
    """
    Names are the same whether comprehensions are inlined or not.
    """
    assert function_name("shop", "f.<locals>.<listcomp>") == "shop.f"
    assert function_name("shop", "A.f.<locals>.<lambda>") == "shop.A.f.<lambda>"
    assert function_name(None, "<listcomp>") == "?"


def test_site(tmp_path: Path):
    """
    A site is a line, an expression, and where both stand, in code points.
    """
    callsite.configure(base_dir=tmp_path)
    path = tmp_path / "größe.py"
    source = "import sys\n\ndef f(x):\n    return 'ä', sys._getframe()\n\nframe = f(1)[1]\n"
    path.write_text(source)

    site = site_of(frame_of(path, source))

    assert (site.path, site.line, site.function) == ("größe.py", 4, "größe.f")
    assert (site.in_async_def, site.on_stack) == (False, True)
    assert site.digest is not None and len(site.digest) == 16


ROWS = """
class Rows:
    def __iter__(self):
        note()
        return iter((1, 2))

    def __bool__(self):
        note()
        return False

few, rows = 0, {'all': Rows()}
"""


@pytest.mark.parametrize(
    "statement",
    [
        "found, *_ = ⟦rows['all']⟧",
        "(found, _) = ⟦rows['all']⟧",
        "[found, _] = ⟦rows['all']⟧",
        "if few < 1 and ⟦rows['all']⟧: pass",
        "if not few and not ⟦rows['all']⟧: pass",
        "if ⟦found := rows['all']⟧: pass",
        "while few < 1 and ⟦rows['all']⟧: pass",
        "while ⟦rows['all']⟧ or few: pass",
        "'some' if ⟦rows['all']⟧ else 'none'",
        "assert not ⟦rows['all']⟧",
        "[1 for few in [1] if ⟦rows['all']⟧]",
    ],
)
def test_what_is_asked(statement: str, tmp_path: Path):
    """
    The site of rows that are unpacked or tested is the expression that gives them.
    """
    callsite.configure(base_dir=tmp_path)
    before, text, _ = re.split("[⟦⟧]", statement)
    path = tmp_path / "asked.py"
    path.write_text(ROWS + re.sub("[⟦⟧]", "", statement))
    sites = []
    scope = {"note": lambda: sites.append(site_of(sys._getframe(2)))}

    exec(compile(path.read_text(), str(path), "exec"), scope)

    places = [(site.text, site.line, site.column, site.end_column) for site in sites]
    column = len(before) + 1
    assert places == [(text, ROWS.count("\n") + 1, column, column + len(text))]


def test_no_source(tmp_path: Path):
    """
    Where the source is not there, the line's number is.
    """
    callsite.configure(base_dir=tmp_path)

    site = site_of(frame_of(tmp_path / "gone.py"))

    assert (site.path, site.line, site.text) == ("gone.py", 2, "")


def test_edges():
    """
    The walk ends where a framework acts for something with a name.
    """
    import asyncio.events
    import importlib

    import django.core.handlers.base

    executor = importlib.import_module("graphql.execution.execute")

    def edge(path: str) -> Edge:
        return code_of(compile("1", path, "exec")).edge

    assert edge(django.core.handlers.base.__file__) is Edge.VIEW
    assert edge(str(executor.__file__)) is Edge.FIELD
    assert edge(asyncio.events.__file__) is Edge.LOOP
    assert edge(__file__) is Edge.NONE


def test_read_stack_ends_at_the_project():
    """
    The innermost line of the project is the site.
    """
    frame = sys._getframe()

    assert read_stack(frame).site is frame


def test_many_code_objects():
    """
    Code that is generated again and again does not fill the memory.
    """
    for number in range(50_100):
        code_of(compile("1", f"<generated {number}>", "exec"))

    assert len(callsite.known_codes()) < 50_100
