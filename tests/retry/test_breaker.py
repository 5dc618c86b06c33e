"""``Breakers``: what keeps failing is left alone, and tried again after a while."""

from async_guard.retry.breaker import CLOSED, OPENED, Breakers
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
