"""The example project's application; ``LOAD_BREAKERS=open``: nothing is retried."""

import os

from config.asgi import application

from async_guard.retry.modes import switch

if os.environ.get("LOAD_BREAKERS") == "open":
    switch.machine.policy.breakers.forced_open = True

__all__ = ["application"]
