"""One request of a client that can leave before it was answered."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    """0: nothing came in time."""
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        return self.body.get("data")

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self.body.get("errors") or []

    @property
    def is_clean(self) -> bool:
        return self.status == 200 and not self.errors


async def ask(
    port: int, path: str, query: str, variables: dict[str, Any], leave_after_s: float | None = None
) -> Answer | None:
    """
    Send one operation over a connection of its own.

    Args:
        leave_after_s: cut the connection if there is no answer by then.
    """
    body = json.dumps({"query": query, "variables": variables}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        try:
            raw = await asyncio.wait_for(reader.read(), leave_after_s or TIMEOUT_S)
        except TimeoutError:
            writer.transport.abort()
            return None if leave_after_s else Answer(0)
        return read_answer(raw)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def read_answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0
    with suppress(ValueError):
        return Answer(status, json.loads(body))
    return Answer(status)
