"""The online trainer that `assay up` runs beside the server: never in its way, started again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from assay.cli.processes import Child

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STABLE_S = 120.0
_END_S = 20.0


class TrainerProcess:
    """`assay train` as our child; whatever becomes of it, the server goes on.

    Args:
        flags: of `assay train`.
        is_ready: whether the server answers; the trainer starts when it first does.
    """

    def __init__(self, flags: Sequence[str], is_ready: Callable[[], bool]) -> None:
        self._flags = list(flags)
        self._is_ready = is_ready
        self._child: Child | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._next_try = 0.0
        self._waiting = True

    def keep_alive(self, report: Callable[[str], None]) -> None:
        """Start it when the server is ready, and again after a pause when it has died."""
        now = time.monotonic()
        if self._child is not None:
            code = self._child.exit_code()
            if code is not None:
                self._after_death(code, now, report)
            return
        if now < self._next_try:
            return
        self._next_try = now + _FIRST_PAUSE_S
        if self._waiting and not self._is_ready():
            return
        self._waiting = False
        self._child = Child([sys.executable, "-m", "reward_trainer", "train", *self._flags])
        self._started_at = now

    def end(self) -> None:
        """Have it write its checkpoint and end."""
        if self._child is not None:
            self._child.end(_END_S)

    def _after_death(self, code: int, now: float, report: Callable[[str], None]) -> None:
        if now - self._started_at > _STABLE_S:
            self._pause_s = _FIRST_PAUSE_S
        if self._child is not None:
            self._child.kill()  # and what it may have started
        self._child = None
        report(f"the trainer ended with code {code}; starting it again in {self._pause_s:.0f} s")
        self._next_try = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
