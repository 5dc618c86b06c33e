"""The Django app: registers the checks and, where it is enabled, installs the probe."""

from __future__ import annotations

import logging

from django.apps import AppConfig

logger = logging.getLogger("async_guard")


class AsyncGuardConfig(AppConfig):
    name = "async_guard"
    verbose_name = "async_guard"

    def ready(self) -> None:
        """
        Install the probe.

        What is wrong with the settings is an error of the system check and, because a server
        does not run checks, one in the log; the server itself runs on, without the guard.
        """
        from async_guard import checks  # noqa: F401  registers them
        from async_guard.guard import guard
        from async_guard.settings import get_settings

        try:
            if get_settings().ENABLED:
                guard.install()
        except Exception as error:  # a sink's module may raise anything
            logger.error("async_guard is not installed: %s: %s", type(error).__name__, error)
