"""``Breakers``: what keeps failing is left alone, and tried again after a while."""

from async_guard.retry.breaker import CLOSED, OPENED, WINDOW_S, Breakers
from async_guard.settings import Settings

RESET_S = 30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breakers, Clock, list[str]]:
    clock, told = Clock(), []
    breakers = Breakers(Settings(RETRY_MAX_FAILURES=1, RETRY_RESET_S=RESET_S), clock)
    breakers.on_change = lambda event, fingerprint: told.append(event)
    breakers.ended("problem", 0.0, failed=True)
    return breakers, clock, told


def test_one_probe_at_a_time():
    """
    When the time is over, one call is let through; the others are when it was right.
    """
    breakers, clock, told = opened()

    before = breakers.admit("problem")
    clock.now += RESET_S
    probes = [breakers.admit("problem"), breakers.admit("problem")]
    breakers.ended("problem", 0.0, failed=False)

    assert (before, probes, breakers.admit("problem")) == (False, [True, False], True)
    assert told == [OPENED, CLOSED]


def test_lost_probe():
    """
    A probe that never tells how it ended, for its client left, keeps nothing closed for ever.
    """
    breakers, clock, _ = opened()
    clock.now += RESET_S
    assert breakers.admit("problem")

    clock.now += RESET_S

    assert breakers.admit("problem")


def test_time_budget():
    """
    What takes more than its seconds of a minute is left alone; the next minute is a new one.
    """
    clock, told = Clock(), []
    breakers = Breakers(Settings(RETRY_BUDGET_S=1.0, RETRY_RESET_S=RESET_S), clock)
    breakers.on_change = lambda event, fingerprint: told.append((event, fingerprint))

    breakers.ended("slow", 0.7, failed=False)
    clock.now += WINDOW_S
    breakers.ended("slow", 0.7, failed=False)
    within = breakers.admit("slow")
    breakers.ended("slow", 0.7, failed=False)

    assert (within, breakers.admit("slow"), breakers.admit("other")) == (True, False, True)
    assert told == [(OPENED, "slow")]


def test_nothing_is_retried():
    """
    Who has to stop all retries at once can.
    """
    breakers, _, _ = opened()

    breakers.forced_open = True

    assert [breakers.admit("problem"), breakers.admit("other")] == [False, False]


def test_bounded():
    """
    Of more problems than there is room for, the oldest is forgotten: it may be retried again.
    """
    breakers = Breakers(Settings(RETRY_MAX_FAILURES=1, MAX_FINGERPRINTS=2), Clock())

    for name in ("first", "second", "third"):
        breakers.ended(name, 0.0, failed=True)

    assert [breakers.admit(each) for each in ("first", "second", "third")] == [True, False, False]
