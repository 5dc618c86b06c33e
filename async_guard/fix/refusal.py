"""Why a hit is left alone, in one sentence."""

from __future__ import annotations

from typing import Any

from async_guard.errors import AsyncGuardError


class Refused(AsyncGuardError):
    """This hit is not fixed; the message is the sentence that says why."""


class Done(Refused):
    """What would fix it is there already: nothing else is tried."""


class SyncFunction(Refused):
    """It is in a sync function, whose callers could move the whole call to a thread."""


class InGenerator(Refused):
    """It is in a generator expression, which a list could take the place of."""

    def __init__(self, generator: Any) -> None:
        super().__init__("It is in a generator expression, which cannot await for who reads it.")
        self.generator = generator


class Changed(Refused):
    """The code is not what the log is of: of an older version of it, there is nothing to fix."""


class Missing(Refused):
    """The checkout has no such file."""


class NotHere(Refused):
    """This rewrite is not for such code; what another one says is the better reason."""
