"""Points at which a test kills the trainer, as a power cut would."""

from __future__ import annotations

import os
import signal
from typing import Literal

CrashPoint = Literal[
    "after_gate",
    "after_publish",
    "before_checkpoint",
    "after_checkpoint",
    "before_ack",
    "during_dead_letter",
]


class Crash:
    """Kills this process when it comes to a point for the n-th time.

    Args:
        at: `POINT` or `POINT:N`; None = never.
    """

    def __init__(self, at: str | None) -> None:
        self._point, _, times = (at or "").partition(":")
        self._left = int(times or 1)

    def at(self, point: CrashPoint) -> None:
        """Say that the trainer is at a point."""
        if point == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
