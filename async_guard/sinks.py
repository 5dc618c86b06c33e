"""Where hits go: the project's log, and a file of JSON lines."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from async_guard.hit import HIT, Hit

LOGGER = "async_guard"


class Sink(Protocol):
    """
    Receives hits, one at a time, in a thread of its own.

    One that raises is logged once and goes on being called; one that blocks delays nobody else.
    """

    def __call__(self, hit: Hit, /) -> None: ...


class LogSink:
    """
    Logs through structlog where the project configured it, else through ``logging``.

    The envelope (``timestamp``, ``level``, ``logger``) is made by the project's processors; an
    unconfigured structlog would print to standard output, past every handler.
    """

    def __call__(self, hit: Hit, /) -> None:
        self.note(HIT, hit.level, hit.to_dict())

    def note(self, event: str, level: str, keys: dict[str, Any]) -> None:
        if structlog.is_configured():
            self._structlog(event, level, keys)
        else:
            self._logging(event, level, keys)

    def _structlog(self, event: str, level: str, keys: dict[str, Any]) -> None:
        if _renames_event_to_message():
            keys = {("async_guard.message" if k == "message" else k): v for k, v in keys.items()}
        if issubclass(structlog.get_config()["wrapper_class"], structlog.stdlib.AsyncBoundLogger):
            asyncio.run(_alog(event, level, keys))
            return
        log = getattr(structlog.get_logger(LOGGER), level)
        try:
            log(event, **keys)
        except KeyError:  # render_to_log_kwargs makes LogRecord attributes; "message" is taken
            log(event, **{k: v for k, v in keys.items() if k != "message"})

    def _logging(self, event: str, level: str, keys: dict[str, Any]) -> None:
        logger, number = logging.getLogger(LOGGER), logging.getLevelNamesMapping()[level.upper()]
        extra = {key: value for key, value in keys.items() if key != "message"}
        try:
            logger.log(number, "%s", readable(event, keys), extra=extra)
        except KeyError:  # the project's record factory has attributes of the same names
            taken = vars(logging.getLogRecordFactory()(LOGGER, number, "", 0, "", (), None))
            extra = {key: value for key, value in extra.items() if key not in taken}
            logger.log(number, "%s", readable(event, keys), extra=extra)


async def _alog(event: str, level: str, keys: dict[str, Any]) -> None:
    """Log through an ``AsyncBoundLogger``: made where a loop runs, it has a sync one."""
    getattr(structlog.get_logger(LOGGER).bind().sync_bl, level)(event, **keys)


def _renames_event_to_message() -> bool:
    """Tell whether an ``EventRenamer`` would put the event's name where the sentence is."""
    processors = structlog.get_config()["processors"]
    return any(getattr(each, "to", None) == "message" for each in processors)


def readable(event: str, keys: dict[str, Any]) -> str:
    """Return one line that a person can read."""
    words = [f"{event}:", str(keys.get("message", ""))]
    details = ("outcome", "rule", "fingerprint", "count")
    found = [f"{name}={keys[full]}" for name in details if (full := f"async_guard.{name}") in keys]
    return " ".join([*words, f"[{' '.join(found)}]"] if found else words)


class FileSink:
    """
    Appends JSON lines to a file: one ``write`` per event, so that processes may share it.

    The file is opened again when it was renamed or removed, as log rotation does.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def __call__(self, hit: Hit, /) -> None:
        self.note(HIT, hit.level, hit.to_dict())

    def note(self, event: str, level: str, keys: dict[str, Any]) -> None:
        envelope = {
            "timestamp": datetime.now(UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "level": level,
            "event": event,
            "logger": LOGGER,
        }
        line = json.dumps({**envelope, **keys}, ensure_ascii=True, default=str) + "\n"
        os.write(self._open(), line.encode("ascii"))

    def _open(self) -> int:
        if self._file is not None and not self._is_current(self._file):
            self.close()
        if self._file is None:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self._file

    def _is_current(self, file: int) -> bool:
        try:
            there, ours = os.stat(self._path), os.fstat(file)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
