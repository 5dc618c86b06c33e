"""``Limiter``: the first hits in full, then counts, and nothing lost from the totals."""

import gc
import threading
from collections import Counter, OrderedDict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_guard.hit import Hit
from async_guard.limiter import SAMPLE, Counts, Drained, Limiter


def hit(number: int) -> Hit:
    return Hit(fingerprint=f"{number:016x}", hit_id=f"{number:032x}")


def counted(drained: Drained) -> Counter:
    found: Counter = Counter()
    for each in drained.hits:
        found[each.fingerprint, each.outcome] += each.count
    return found


def test_burst_then_counts():
    """
    So many hits of a fingerprint are admitted; another fingerprint has a burst of its own.
    """
    limiter = Limiter(burst=2, most=10)

    admitted = [limiter.admit(fingerprint) for fingerprint in "aabaaba"]

    assert admitted == [True, True, True, False, False, True, False]


def test_counts_by_outcome():
    """
    A fingerprint that ends in two ways is counted twice, and drained once.
    """
    limiter = Limiter(burst=1, most=10)
    limiter.count(hit(1), "raised", 3)
    limiter.count(hit(1), "swallowed")
    limiter.count(hit(1), "raised")

    drained, again = limiter.drain(), limiter.drain()

    raised = replace(hit(1), outcome="raised", count=4)
    assert drained == Drained(hits=[raised, replace(hit(1), outcome="swallowed", count=1)])
    assert (bool(again), again) == (False, Drained())


def test_the_one_seen_longest_ago_makes_room():
    """
    A forgotten fingerprint is named, and its next hit is logged in full again.
    """
    limiter = Limiter(burst=1, most=2)

    admitted = [limiter.admit(fingerprint) for fingerprint in "abacab"]

    assert admitted == [True, True, False, True, False, True]
    assert limiter.drain() == Drained(evicted=2, evicted_sample=["b", "c"])


def test_eviction_takes_no_count():
    """
    What was counted of a fingerprint is told although the fingerprint was forgotten.
    """
    limiter = Limiter(burst=1, most=1)
    limiter.admit(hit(1).fingerprint)
    limiter.count(hit(1), "raised", 7)
    limiter.admit(hit(2).fingerprint)

    drained = limiter.drain()

    assert drained.hits == [replace(hit(1), count=7)]
    assert drained.evicted_sample == [hit(1).fingerprint]


def test_no_room_is_counted_without_a_name():
    """
    Beyond the most fingerprints, hits are counted all the same.
    """
    limiter = Limiter(burst=1, most=2)
    for number in range(5):
        limiter.count(hit(number), "raised", 10)

    drained = limiter.drain()

    assert (len(drained.hits), drained.unnamed, drained.is_lossy) == (2, 30, True)


def test_sample_is_bounded():
    """
    However many fingerprints are forgotten, the sample names a few.
    """
    limiter = Limiter(burst=1, most=1)
    for number in range(1000):
        limiter.admit(str(number))

    drained = limiter.drain()

    assert drained == Drained(evicted=999, evicted_sample=[str(n) for n in range(SAMPLE)])


def test_what_the_queue_refused():
    """
    A refused event is dropped and counted; the totals had it already.
    """
    limiter = Limiter(burst=1, most=10)
    limiter.drop(replace(hit(1), count=3), "raised")

    assert limiter.drain() == Drained(hits=[replace(hit(1), count=3)], dropped=1)
    assert limiter.totals == {}


def test_put_back():
    """
    What could not be written is counted once more, beside what came in between.
    """
    counts = Counts(most=2)
    counts.count(hit(1), "raised", 3)
    counts.count(hit(2), "raised")
    counts.count(hit(3), "raised", 5)
    counts.evict("a")
    drained = counts.drain()
    counts.count(hit(1), "raised", 4)
    counts.evict("b")

    counts.put_back(drained)

    assert counts.drain() == Drained(
        hits=[replace(hit(1), count=7), replace(hit(2), count=1)],
        unnamed=5,
        evicted=2,
        evicted_sample=["b", "a"],
    )


steps = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["raised", "handled"]), st.integers(1, 3))
    | st.none()
)


@given(steps=steps, burst=st.integers(1, 3), most=st.integers(1, 4))
def test_nothing_is_lost(steps, burst, most):
    """
    Logged, counted and unnamed hits add up to all of them, whatever the order.
    """
    limiter = Limiter(burst, most)
    logged = told = expected = 0
    for step in [*steps, None]:
        if step is None:
            drained = limiter.drain()
            told += counted(drained).total() + drained.unnamed
            continue
        number, outcome, times = step
        expected += times
        if limiter.admit(hit(number).fingerprint):
            limiter.total(outcome, times)
            logged += times
        else:
            limiter.count(hit(number), outcome, times)
        assert len(limiter._logged) <= most
        assert len(limiter._counts) <= most

    assert logged + told == expected == sum(limiter.totals.values())


def test_threads():
    """
    Counts of several threads are exact.
    """
    limiter = Limiter(burst=5, most=100)
    full = []

    def work():
        for number in range(2000):
            each = hit(number % 50)
            if limiter.admit(each.fingerprint):
                limiter.total("raised")
                full.append(each)
            else:
                limiter.count(each, "raised")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert limiter.totals == {"raised": 8000}
    assert len(full) == 250
    assert counted(limiter.drain()).total() == 7750


class Dying:
    """A cycle whose finaliser counts a hit, as dying exceptions do."""

    def __init__(self, call):
        self.call = call
        self.me = self

    def __del__(self):
        self.call()


@pytest.mark.parametrize("is_full", [True, False])
def test_finalisers_in_the_middle(is_full: bool):
    """
    A hit that is counted by a finaliser, in the middle of counting another, is not lost.
    """
    limiter = Limiter(burst=1, most=10)
    finalised = []

    def count():
        if is_full:
            limiter.total("raised")
        else:
            limiter.count(hit(1), "raised")

    def finalise():
        finalised.append(1)
        count()

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(5000):
            Dying(finalise)
            count()
    finally:
        gc.set_threshold(*before)
    gc.collect()

    assert len(finalised) == 5000
    assert limiter.totals == {"raised": 10_000}
    assert counted(limiter.drain()).total() == (0 if is_full else 10_000)


class Interrupted(OrderedDict):
    """What a limiter remembers, with something else that comes in after so many steps."""

    def __init__(self, at, call):
        super().__init__()
        self.left, self.call = at, call

    def interrupt(self):
        self.left -= 1
        if self.left == 0:
            self.call()

    def get(self, *args):
        found = super().get(*args)
        self.interrupt()
        return found

    def pop(self, *args):
        found = super().pop(*args)
        self.interrupt()
        return found

    def __setitem__(self, *args):
        super().__setitem__(*args)
        self.interrupt()

    def __len__(self):
        found = super().__len__()
        self.interrupt()
        return found


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("burst", [1, 3])
def test_admitted_in_the_middle_of_admitting(at: int, burst: int):
    """
    A finaliser that admits a hit while another is admitted, with room for one, does no harm.
    """
    limiter = Limiter(burst, most=1)
    limiter._logged = Interrupted(at, lambda: limiter.admit("b"))

    admitted = [limiter.admit("a") for _ in range(3)]

    assert admitted[0] is True
    assert limiter.admit("c") is True
    assert len(limiter._logged) <= 1
