"""
One noticed access as a frozen, JSON-safe value.

The names of the event's keys stand here, once: beside the attribute that they belong to.
"""

from __future__ import annotations

import importlib
import operator
import os
import random
import sys
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

SCHEMA_VERSION = "1.0"
HIT, SUMMARY, DROPPED = "async_guard.hit", "async_guard.summary", "async_guard.dropped"
STARTED, SINK_FAILED = "async_guard.started", "async_guard.sink_failed"
SYNC_ORM, BLOCKING_ORM = "sync_orm", "blocking_orm"
ASYNC_TO_SYNC, N_PLUS_ONE = "async_to_sync_in_loop", "n_plus_one"
TRANSACTION_ACROSS_AWAIT = "transaction_across_await"
ATOMIC_COROUTINE = "atomic_coroutine"
"""The operation where ``@transaction.atomic`` stands on an ``async def``."""
LEVELS = {
    "raised": "error",
    "swallowed": "error",
    "allowed": "warning",
    "handled": "info",
    "retried": "warning",
    "retry_failed": "error",
    "retry_refused": "error",
}


@cache
def package_version() -> str:
    """Return the version of the installed package."""
    metadata = importlib.import_module("importlib.metadata")  # slow, and few commands need it
    try:
        return str(metadata.version("async-guard"))
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"


def key(name: str, default: Any = None) -> Any:
    """Declare an attribute and its key in the event."""
    return field(default=default, metadata={"key": name})


def ours(name: str, default: Any = None) -> Any:
    return key(f"async_guard.{name}", default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One access, or as many of one fingerprint as ``count`` says. See ``docs/event.md``."""

    message: str = key("message", "")
    schema_version: str = ours("schema_version", SCHEMA_VERSION)
    version: str = ours("version", "")
    hit_id: str = ours("hit_id", "")
    kind: str = ours("kind", SYNC_ORM)
    access: str = ours("access", "other")
    relation: str | None = ours("relation")
    orm_model: str | None = ours("orm.model")
    orm_field: str | None = ours("orm.field")
    orm_operation: str | None = ours("orm.operation")
    orm_alias: str | None = ours("orm.alias")
    outcome: str = ours("outcome", "raised")
    fingerprint: str = ours("fingerprint", "")
    fingerprint_version: int = ours("fingerprint_version", 1)
    count: int = ours("count", 1)
    rule: str = ours("rule", "")
    advice: str | None = ours("advice")
    docs: str | None = ours("docs")
    owner: str = ours("owner", "app")
    owner_package: str | None = ours("owner_package")
    function: str = key("code.function.name", "")
    path: str = key("code.file.path", "")
    line: int = key("code.line.number", 0)
    column: int | None = key("code.column.number")
    end_line: int | None = ours("code.end_line")
    end_column: int | None = ours("code.end_column")
    text: str = ours("code.text", "")
    in_async_def: bool = ours("code.in_async_def", False)
    on_stack: bool = ours("code.on_stack", True)
    digest: str | None = ours("code.digest")
    frames: tuple[dict[str, Any], ...] = ours("frames", ())
    operation_name: str | None = key("graphql.operation.name")
    operation_type: str | None = key("graphql.operation.type")
    graphql_field: str | None = ours("graphql.field")
    graphql_path: str | None = ours("graphql.path")
    graphql_resolver: str | None = ours("graphql.resolver")
    graphql_parent: str | None = ours("graphql.parent")
    plain_field: bool | None = ours("graphql.plain_field_on_django_type")
    http_method: str | None = key("http.request.method")
    http_route: str | None = key("http.route")
    view: str | None = ours("view")
    request_id: str | None = key("request_id")
    correlation_id: str | None = key("correlation_id")
    trace_id: str | None = key("trace_id")
    span_id: str | None = key("span_id")
    trace_flags: str | None = key("trace_flags")
    task: str | None = ours("task")
    process_pid: int | None = key("process.pid")
    service_name: str | None = key("service.name")
    service_version: str | None = key("service.version")
    environment: str | None = key("deployment.environment.name")
    duration_ms: float | None = ours("duration_ms")
    retry_strategy: str | None = ours("retry.strategy")
    retry_duration_ms: float | None = ours("retry.duration_ms")
    retry_hop_size: int | None = ours("retry.hop_size")
    retry_batched: bool | None = ours("retry.batched")
    retry_queries: int | None = ours("retry.queries")
    exception_type: str | None = key("exception.type")

    @property
    def level(self) -> str:
        """The name of the log level, by outcome."""
        return LEVELS.get(self.outcome, "warning")

    def changed(self, **changes: Any) -> Hit:
        """Return a copy with *changes*: ``dataclasses.replace``, three times as fast."""
        return Hit(**dict(zip(_NAMES, _values(self), strict=True)) | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the event's keys and values, without those that are not known."""
        found = {}
        for name, event_key in event_keys():
            value = getattr(self, name)
            if value is None or value == ():
                continue
            found[event_key] = _cleaned(value)
        return found

    @classmethod
    def from_dict(cls, event: dict[str, Any]) -> Hit:
        """Make a hit from an event; keys that this version does not know are ignored."""
        known = {name: event[event_key] for name, event_key in event_keys() if event_key in event}
        if "frames" in known:
            known["frames"] = tuple(known["frames"])
        return cls(**known)


_NAMES = tuple(each.name for each in fields(Hit))
_values = operator.attrgetter(*_NAMES)
_random = random.Random()
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_random.seed)


def new_hit_id() -> str:
    """
    Return 32 hex digits for a hit.

    Not a UUID: that asks the operating system, and gives the interpreter to another thread
    meanwhile.
    """
    return f"{_random.getrandbits(128):032x}"


def _cleaned(value: Any) -> Any:
    """Return *value* as JSON has it, without lone surrogates, which some encoders refuse."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, tuple):
        return [{key: _cleaned(each) for key, each in item.items()} for item in value]
    return value


@cache
def event_keys() -> tuple[tuple[str, str], ...]:
    """Return each attribute of a ``Hit`` with its key, in the order of an event."""
    return tuple((each.name, each.metadata["key"]) for each in fields(Hit))
