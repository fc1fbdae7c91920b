"""Time as a replica has lived it: what its event loop slept through does not count as quiet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TICK_S = 0.05
_MOST_S = 2 * _TICK_S  # that passes between two ticks, however late the second one is


class LiveClock:
    """Seconds in which the event loop kept up.

    While a loop stalls, requests wait unread in their sockets: seen from inside it is quiet, and it
    is not. So a stall stops this clock.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lived_s = 0.0
        self._last_s = clock()

    def __call__(self) -> float:
        """The seconds so far."""
        return self._lived_s + min(self._clock() - self._last_s, _MOST_S)

    def tick(self) -> None:
        """The loop has come round."""
        self._lived_s, self._last_s = self(), self._clock()

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick()
