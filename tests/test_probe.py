"""The seams: all or none, and Django gets its own objects back."""

import asyncio
import contextlib
import gc
import os
import warnings
from collections.abc import Iterable
from typing import Any

import django.utils.asyncio
import pytest
from asgiref.sync import AsyncToSync, async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation

from async_guard.errors import SeamMissing
from async_guard.probe import Probe, Seam, patched
from async_guard.testing import capture_hits
from tests.conftest import the_originals


class Listener:
    """Remembers what the probe reports."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def refused(self, error: BaseException) -> None:
        self.heard.append("refused")

    def died(self, error: BaseException) -> None:
        self.heard.append("died")

    def allowed(self) -> None:
        self.heard.append("allowed")

    def loaded(self, queryset: Any) -> None:
        self.heard.append("loaded")


class ProbeWithMissingSeam(Probe):
    def seams(self) -> Iterable[Seam]:
        yield from super().seams()
        yield Seam(django.utils.asyncio, "no_such_thing", lambda original: original)


@pytest.fixture
def probe():
    gc.collect()  # a refusal that an earlier test left in a cycle would die here
    probe = Probe(Listener())
    yield probe
    probe.uninstall()


def heard(probe: Probe) -> list[str]:
    return probe._listener.heard  # type: ignore[attr-defined]


def test_half_installed_is_not_installed():
    """
    When one seam is missing, none stays patched.
    """
    before = the_originals()
    probe = ProbeWithMissingSeam(Listener())

    with pytest.raises(SeamMissing, match=r"django\.utils\.asyncio\.no_such_thing is gone"):
        probe.install()

    assert not probe.installed
    assert the_originals() == before


@pytest.mark.parametrize("seam", [seam.name for seam in Probe(Listener()).seams()])
def test_each_seam_may_be_missing(seam: str):
    """
    A seam that Django removed takes the others with it, and is named.
    """
    before = the_originals()

    class WithoutOne(Probe):
        def seams(self) -> Iterable[Seam]:
            for each in super().seams():
                gone = each._replace(owner=type("Gone", (), {}), name="gone", optional=False)
                yield gone if each.name == seam else each

    with pytest.raises(SeamMissing, match=r"Gone\.gone is gone"):
        WithoutOne(Listener()).install()

    assert the_originals() == before


def test_installed_twice_is_installed_once(probe: Probe):
    """
    One uninstall takes back any number of installs.
    """
    before = the_originals()

    probe.install()
    probe.install()
    probe.uninstall()

    assert the_originals() == before


def test_refused_and_died(probe: Probe):
    """
    A refusal is heard when its exception is made, and when it is freed, whoever swallowed it.
    """
    probe.install()

    async def code():
        with contextlib.suppress(Exception):
            User.objects.count()

    asyncio.run(code())

    assert heard(probe) == ["refused", "died"]


def test_not_without_a_loop(probe: Probe, db: None):
    """
    Where no loop runs there is nothing to hear.
    """
    probe.install()

    User.objects.count()

    assert heard(probe) == []


def test_allowed(probe: Probe, monkeypatch: pytest.MonkeyPatch, db: None):
    """
    A call that the project allows is heard, and goes on as before.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    probe.install()

    async def code():
        return User.objects.count()

    assert asyncio.run(code()) == 0
    assert heard(probe)[0] == "allowed"


def test_async_to_sync(probe: Probe):
    """
    asgiref's refusal is heard, and a RuntimeError of the called function is not.
    """
    probe.install()

    async def fine():
        raise RuntimeError("its own")

    async def code():
        with pytest.raises(RuntimeError, match="same thread"):
            async_to_sync(fine)()

    asyncio.run(code())
    with pytest.raises(RuntimeError, match="its own"):
        async_to_sync(fine)()

    assert heard(probe) == ["refused"]


def test_patched_on_top(probe: Probe):
    """
    Who patched after us keeps the patch, and our wrapper below only passes calls through.
    """
    original = vars(AsyncToSync)["__call__"]
    probe.install()
    ours = AsyncToSync.__call__
    AsyncToSync.__call__ = theirs = lambda *args: ours(*args)
    try:
        with pytest.warns(RuntimeWarning, match="__call__ was patched after async_guard"):
            probe.uninstall()

        assert AsyncToSync.__call__ is theirs

        async def code():
            with pytest.raises(RuntimeError):
                async_to_sync(asyncio.sleep)(0)

        asyncio.run(code())
        assert heard(probe) == []
    finally:
        AsyncToSync.__call__ = original


def test_patched_inherited():
    """
    What the owner only inherited is not there any more afterwards.
    """

    class Parent:
        def method(self):
            return "parent"

    class Child(Parent):
        pass

    with patched(Seam(Child, "method", lambda original: lambda self: original(self) + "!")):
        assert Child().method() == "parent!"

    assert "method" not in vars(Child)


def test_environment_is_the_same(probe: Probe, monkeypatch: pytest.MonkeyPatch):
    """
    What Django sees as ``os`` answers as the module does.
    """
    monkeypatch.setenv("ASYNC_GUARD_TEST", "x")
    probe.install()
    stand_in = vars(django.utils.asyncio)["os"]

    assert stand_in.environ["ASYNC_GUARD_TEST"] == "x"
    assert "ASYNC_GUARD_TEST" in stand_in.environ
    assert stand_in.environ.get("ASYNC_GUARD_MISSING", "y") == "y"
    assert stand_in.environ.copy() == dict(os.environ)
    assert stand_in.sep is os.sep


def test_the_exception_is_the_same():
    """
    Type, message, arguments and pickling of the refusal stay as they are.
    """
    import pickle

    async def code():
        with pytest.raises(SynchronousOnlyOperation) as caught:
            User.objects.count()
        return caught.value

    bare = asyncio.run(code())
    with capture_hits():
        watched = asyncio.run(code())

    assert type(watched) is type(bare)
    assert watched.args == bare.args
    assert vars(watched) == vars(bare) == {}
    assert pickle.loads(pickle.dumps(watched)).args == bare.args


def test_no_warning_is_left():
    """
    Install and uninstall say nothing when nobody patched in between.
    """
    probe = Probe(Listener())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe.install()
        probe.uninstall()
