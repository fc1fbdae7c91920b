"""Ending background tasks."""

from __future__ import annotations

import asyncio

_AGAIN_S = 0.2


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended; its own errors stay with it.

    Once is not always enough: redis-py sends within `asyncio.wait_for`, which on Python 3.11
    swallows a cancellation that comes as it finishes.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
