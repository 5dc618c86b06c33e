"""What async_guard raises. It raises at start-up and in commands, never inside a request."""


class AsyncGuardError(Exception):
    """Base of everything that async_guard raises itself."""


class SeamMissing(AsyncGuardError):
    """Something that the probe replaces is not there: a Django that this version does not know."""

    def __init__(self, owner: object, name: str) -> None:
        where = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", repr(owner))
        super().__init__(
            f"{where}.{name} is gone, so async_guard watches nothing. "
            "Upgrade async_guard, or set ASYNC_GUARD['ENABLED'] = False."
        )
