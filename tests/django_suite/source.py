"""Django's tests, taken from its source distribution into a cache outside of the checkout."""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

NOT_TESTS = {"gis_tests", "import_error_package", "test_runner_apps"}
"""Folders that Django's own runner leaves out, too (the first without a spatial database)."""


def find_tests() -> Path:
    """Return the folder of the tests of the Django that is installed; fetch it if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async-guard"
    source = cache / f"django-{django.__version__}"
    if not source.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _fetch(source)
    return source / "tests"


def _fetch(source: Path) -> None:
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        requirement = f"django=={django.__version__}"
        options = ["--quiet", "--no-deps", "--no-binary", "django", "--dest", folder]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (unpacked,) = Path(folder).glob("*/")
        if not source.exists():  # another run may have been faster
            unpacked.rename(source)


def list_modules(tests: Path) -> list[str]:
    """Return the names of all test modules, in order."""
    found = {each.parent.name for each in tests.glob("*/__init__.py")}
    return sorted(found - NOT_TESTS)
