"""``doctor``: what it finds odd, and what it says where something is missing."""

import logging
import os
from importlib.metadata import PackageNotFoundError, version

import pytest

import async_guard
from async_guard import cli


@pytest.fixture
def lines(capsys):
    """Return a function that runs the doctor, and gives the lines that it says."""

    def run():
        assert cli.main(["doctor"]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def odd(lines):
    return lines[lines.index("Odd") + 1 :]


def test_environment(lines, monkeypatch):
    """
    What switches Django's refusal or assertions off is odd.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")

    assert odd(lines())[:2] == [
        "  DJANGO_ALLOW_ASYNC_UNSAFE is set: async-unsafe calls block the loop instead of failing.",
        "  PYTHONOPTIMIZE is set: assertions do not run.",
    ]


def test_settings_that_cannot_be_read(lines, settings):
    """
    Settings that are wrong are told, and stop nothing else.
    """
    settings.ASYNC_GUARD = {"BURTS": 1}

    said = lines()

    module = os.environ["DJANGO_SETTINGS_MODULE"]
    at = said.index(f"Configured (ASYNC_GUARD in {module})")
    assert said[at + 1 : at + 3] == ["  cannot be read", "Odd"]
    assert len(odd(said)) == 1
    assert "BURST" in odd(said)[0]


def section(lines, begin):
    at = lines.index(begin) + 1
    return [line.split()[0] for line in lines[at : lines.index("", at)]]


def test_patches_of_the_retry(lines):
    """
    What a retry patches is told, and only while it is on.
    """
    with async_guard.retrying("resume"):
        resume = section(lines(), "Patched by AUTO_RETRY (resume)")
    with async_guard.retrying("rerun"):
        rerun = section(lines(), "Patched by AUTO_RETRY (rerun)")
    with async_guard.guarded():
        off = lines()

    assert {"ConnectionHandler.__getitem__", "SyncToAsync.__call__"} < set(resume)
    assert "ModelIterable.__iter__" not in resume
    assert rerun == ["resolvers"]
    assert [line for line in off if line.startswith("Patched")] == [
        "Patched (the guard is installed)"
    ]


@pytest.mark.parametrize("name", ["libcst", "greenlet"])
def test_parts_that_are_installed(lines, name):
    """
    The optional parts are told with their versions.
    """
    [said] = [line.split() for line in lines() if line.split()[:1] == [name]]

    assert said[1] == f"{version(name)}:"


@pytest.fixture
def logger():
    logger = logging.getLogger("async_guard")
    before = logger.level
    yield logger
    logger.setLevel(before)


def test_summaries_that_nobody_sees(lines, settings, logger):
    """
    A level at which summaries are not logged is odd, unless a file has them.
    """

    def is_told():
        return any("async_guard.summary is not logged" in line for line in odd(lines()))

    settings.ASYNC_GUARD = {}
    logger.setLevel(logging.WARNING)
    assert is_told()

    settings.ASYNC_GUARD = {"LOG_FILE": os.devnull}
    assert not is_told()

    settings.ASYNC_GUARD = {}
    logger.setLevel(logging.INFO)
    assert not is_told()


def test_extra_that_is_missing(lines, monkeypatch):
    """
    A package that is not installed is told with what it would be for.
    """

    def missing(name):
        if name == "rich":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", missing)

    assert f"  {'rich':<26} not installed: colours and a table in a terminal (report)" in lines()
