"""Where score requests come in: counted while they are answered, and held while versions switch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

HOLD_S = 2.0  # of silence from the others, after which requests go on with the version in hand


class Door:
    """Lets requests in at once, or once it opens again; those inside are never stopped.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = asyncio.Event()
        self._open.set()
        self._inside = 0
        self._quiet_since_s = clock()
        self._opens_itself: asyncio.TimerHandle | None = None
        self.closed_until_s = 0.0  # of `time.monotonic`, by itself; it may open before

    @property
    def in_flight(self) -> int:
        """Requests that were let in and are not answered yet."""
        return self._inside

    @property
    def idle_s(self) -> float:
        """Seconds since the last request was inside; 0 while one is."""
        return 0.0 if self._inside else self._clock() - self._quiet_since_s

    @property
    def is_open(self) -> bool:
        """Whether requests are let in."""
        return self._open.is_set()

    async def enter(self) -> None:
        """Wait until the door is open, and be counted; `leave` must follow."""
        while not self._open.is_set():  # it may have closed again before this task runs
            await self._open.wait()
        self._inside += 1

    def leave(self) -> None:
        """Be counted off."""
        self._inside -= 1
        if self._inside == 0:
            self._quiet_since_s = self._clock()

    def close(self) -> None:
        """Hold what comes; called again, it goes on holding. It opens itself after `HOLD_S`."""
        self._open.clear()
        self._cancel()
        self.closed_until_s = time.monotonic() + HOLD_S
        self._opens_itself = asyncio.get_running_loop().call_later(HOLD_S, self.open)

    def open(self) -> None:
        """Let in what waits, and what comes."""
        self._cancel()
        self._open.set()

    def _cancel(self) -> None:
        if self._opens_itself is not None:
            self._opens_itself.cancel()
            self._opens_itself = None
