"""The threads that ``sync_to_async`` makes, and whether they end."""

import asyncio
import threading
import time

PATIENCE_S = 5


def workers():
    """Return those that there are."""
    return {each for each in threading.enumerate() if each.name.startswith("ThreadPoolExecutor")}


async def left_since(before):
    """Return those that are new and do not end: one that was shut down needs a moment."""
    ends = time.monotonic() + PATIENCE_S
    while (new := workers() - before) and time.monotonic() < ends:
        await asyncio.sleep(0.01)
    return new
