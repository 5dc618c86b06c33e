"""The hits that a call holds: it gets its own, and all of them."""

import threading
from types import SimpleNamespace

from async_guard.retry.watch import Watch


def test_loops_in_several_threads(hectic):
    """
    Calls in several threads see and get each of their own hits, and nobody else's.
    """
    watch, wrong = Watch(), []

    def call_again_and_again():
        for _ in range(10_000):
            holder, before = object(), watch.count
            hits = [SimpleNamespace(holder=holder), SimpleNamespace(holder=holder)]
            for hit in hits:
                watch.hold(hit)
            has_grown, found = watch.count != before, watch.claim(holder)
            if not has_grown or found != hits:
                wrong.append((has_grown, found))

    threads = [threading.Thread(target=call_again_and_again) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert wrong == []
