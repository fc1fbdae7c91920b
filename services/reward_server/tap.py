"""What the scoring routes score, handed to the online trainer after the reply.

So any trainer that only asks for scores feeds the stream of samples. Scoring never waits for it:
what does not fit or cannot be stored is dropped and counted. Texts that were scored raw or as cut
by the token limit are left out and counted: samples are trained on as whole replies.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.schemas.storage import Sample
from reward_server.tasks import end

if TYPE_CHECKING:
    from assay.schemas.scoring import Group
    from assay.schemas.text import Completion
    from assay.streams.samples import SampleStream
    from reward_server.metrics import ServerMetrics

logger = logging.getLogger(__name__)

DEFAULT_POLICY = "tap"
_MAX_COMPLETIONS = 20_000  # that wait to be stored
_BATCH_SAMPLES = 256


class Tap:
    """A bounded queue and the task that empties it.

    Args:
        samples: makes the stream's writer.
        metrics: where stored and dropped samples are counted.
    """

    def __init__(self, samples: Callable[[], SampleStream], metrics: ServerMetrics) -> None:
        self._samples = samples
        self._metrics = metrics
        self._waiting: deque[Sample] = deque()
        self._completions = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to store what is offered."""
        self._task = asyncio.create_task(self._run(), name="tap")

    def offer(
        self, groups: Iterable[Group], policy: str | None, step: int | None, *, raw: bool = False
    ) -> None:
        """Take groups that were scored, or drop them; returns at once."""
        for group in groups:
            whole = [] if raw else _finished(group)
            size = len(whole)
            self._metrics.left_out.inc(len(group.completions) - size)
            if not whole:
                continue
            if self._completions + size > _MAX_COMPLETIONS:
                self._count("dropped", 1)
                continue
            self._completions += size
            self._waiting.append(
                Sample(
                    prompt=group.prompt,
                    completions=whole,
                    policy=policy or DEFAULT_POLICY,
                    step=step,
                )
            )
        self._wake.set()

    async def close(self) -> None:
        """Try once to store what still waits."""
        if self._task is None:
            return
        await end(self._task)
        self._task = None
        if self._waiting:
            await self._store(self._take(len(self._waiting)))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if not self._waiting:
                self._wake.clear()
                continue
            await self._store(self._take(_BATCH_SAMPLES))

    def _take(self, most: int) -> list[Sample]:
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._completions -= sum(len(sample.completions) for sample in batch)
        return batch

    async def _store(self, batch: list[Sample]) -> None:
        try:
            await self._samples().append(batch, None)
        except AssayError as error:
            self._count("dropped", len(batch))
            logger.warning("tapped samples dropped", extra={"reason": error.detail})
        else:
            self._count("stored", len(batch))

    def _count(self, outcome: str, samples: int) -> None:
        self._metrics.tapped.labels(outcome).inc(samples)


def _finished(group: Group) -> list[Completion]:
    ends = group.finished or [True] * len(group.completions)
    return [text for text, end in zip(group.completions, ends, strict=True) if end]
