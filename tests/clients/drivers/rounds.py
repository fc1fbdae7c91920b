"""What every driver does: ask, and print a line of JSON; with `--go-on` until its input ends."""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable


async def rounds(ask: Callable[[], Awaitable[object]]) -> None:
    """One round, or rounds without a pause between them."""
    print(json.dumps(await ask()), flush=True)
    if "--go-on" in sys.argv:
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ended.done():
            print(json.dumps(await ask()), flush=True)
