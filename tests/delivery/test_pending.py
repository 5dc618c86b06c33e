"""Hits whose end several threads ask for at once."""

import asyncio
import threading
import time

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from async_guard.hit import Hit
from async_guard.pending import PendingHit, PendingHits


class Slowly:
    """Delivers when it may."""

    def __init__(self):
        self.delivered = []
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, pending, outcome):
        self.has_begun.set()
        assert self.may_end.wait(30)
        self.delivered.append(outcome)


async def noticed(error):
    return PendingHit(Hit(), error, is_full=False, innermost=None)


@pytest.fixture
def deliver():
    return Slowly()


@pytest.fixture
def hits(deliver):
    """One hit, and another thread that is delivering it."""
    error = SynchronousOnlyOperation("refused")
    hits = PendingHits(deliver)
    hits.add(asyncio.run(noticed(error)))
    other = threading.Thread(target=hits.settle_all)
    other.start()
    assert deliver.has_begun.wait(30)
    yield hits
    deliver.may_end.set()
    other.join()


def test_delivered_once(hits: PendingHits, deliver: Slowly):
    """
    A hit that two threads settle is delivered by the first of them alone.
    """
    hits.settle_all()
    deliver.may_end.set()
    hits.wait(time.monotonic() + 30)

    assert deliver.delivered == ["raised"]


def test_waits_for_the_other_thread(hits: PendingHits, deliver: Slowly):
    """
    Who waits goes on when the other thread has delivered the hit, and not before.
    """
    started = time.monotonic()
    hits.wait(started + 0.2)
    assert time.monotonic() - started > 0.2
    assert deliver.delivered == []

    threading.Timer(0.05, deliver.may_end.set).start()
    hits.wait(time.monotonic() + 30)
    assert deliver.delivered == ["raised"]
