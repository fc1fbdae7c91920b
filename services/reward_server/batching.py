"""The queue between requests and forward passes: batches across requests, equal texts once.

Trainers send one completion a request, hundreds at a time, so a batch is made of whatever waits,
whoever sent it. One task forms micro-batches; one thread runs them, off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assay.errors import (
    AssayError,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
    ScoringError,
)
from assay.models.scorer import EncodedInput, Scorer
from reward_server.engine.cache import ScoreCache
from reward_server.engine.plan import plan_batch
from reward_server.metrics import ServerMetrics

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 1.0


@dataclass(eq=False)
class _Ticket:
    """One call of `score`: its rows fill up as its texts are scored."""

    rows: NDArray[np.float64]
    missing: int
    done: asyncio.Future[None]

    def fill(self, index: int, row: NDArray[np.float64]) -> None:
        self.rows[index] = row
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: AssayError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(eq=False)
class _Entry:
    """One distinct text that waits or is being scored, and everyone who waits for it."""

    text: EncodedInput
    queued_at_s: float
    waiters: list[tuple[_Ticket, int]] = field(default_factory=list)

    @property
    def abandoned(self) -> bool:
        """Nobody waits any more: hung up, timed out, or failed by another text."""
        return all(ticket.done.done() for ticket, _ in self.waiters)


class Batcher:
    """Scores texts for many callers at once.

    Args:
        scorer: the model; called from `thread` only.
        thread: one worker, shared by every batcher of the process: OpenMP makes a team of threads
            for each thread that computes, and two teams on the same cores wait for each other.
        max_batch_tokens: padded tokens of one forward pass.
        max_queue_texts: texts that may wait; a call that would exceed it is refused whole.
        cache_bytes: bound of the score cache.
        metrics: where the stages are counted.
    """

    def __init__(
        self,
        scorer: Scorer,
        thread: ThreadPoolExecutor,
        *,
        max_batch_tokens: int,
        max_queue_texts: int,
        cache_bytes: int,
        metrics: ServerMetrics,
    ) -> None:
        self._scorer = scorer
        self._thread = thread
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_texts = max_queue_texts
        self._cache = ScoreCache(cache_bytes)
        self._metrics = metrics
        self._waiting: dict[bytes, _Entry] = {}  # in the order of arrival
        self._running: dict[bytes, _Entry] = {}
        self._wake = asyncio.Event()
        self._counted = 0  # of those that wait, in the gauge that all batchers share
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to score; called on the event loop that will call `score`."""
        self._task = asyncio.create_task(self._run(), name="batcher")

    async def warm_up(self, batches: Sequence[Sequence[EncodedInput]]) -> None:
        """Run forward passes whose scores nobody needs, in the thread that runs the others."""
        loop = asyncio.get_running_loop()
        for batch in batches:
            await loop.run_in_executor(self._thread, self._scorer.score, batch)

    async def close(self) -> None:
        """Stop, and fail whatever still waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for entry in [*self._waiting.values(), *self._running.values()]:
            _fail(entry, NotReadyError("the server stopped", retry_after_s=_RETRY_AFTER_S))
        self._waiting.clear()
        self._running.clear()
        self._count_waiting()

    async def score(self, texts: Sequence[EncodedInput], timeout_s: float) -> NDArray[np.float64]:
        """Scores of any number of texts, shape [texts, members].

        A caller that is cancelled gives up its place: a text that nobody else waits for is dropped
        before it costs a forward pass.

        Raises:
            OverloadedError: the queue is full; nothing was queued.
            DeadlineExceededError: not all texts were scored in time.
            ScoringError: the model failed, or gave a number that is not finite.
        """
        if self._task is None:
            raise NotReadyError("the server is not running", retry_after_s=_RETRY_AFTER_S)
        ticket = self._enqueue(texts)
        try:
            async with asyncio.timeout(timeout_s):
                await ticket.done
        except TimeoutError:
            raise DeadlineExceededError(f"not scored within {timeout_s:g} s") from None
        finally:
            ticket.done.cancel()
        return ticket.rows

    def _enqueue(self, texts: Sequence[EncodedInput]) -> _Ticket:
        cached = [self._cache.get(text.digest) for text in texts]
        fresh = {
            text.digest: text
            for text, row in zip(texts, cached, strict=True)
            if row is None and text.digest not in self._waiting and text.digest not in self._running
        }
        if len(self._waiting) + len(fresh) > self._max_queue_texts:
            raise OverloadedError(
                f"{len(self._waiting)} texts wait, and the queue takes {self._max_queue_texts}",
                retry_after_s=_RETRY_AFTER_S,
            )
        now_s = time.monotonic()
        self._waiting.update({digest: _Entry(text, now_s) for digest, text in fresh.items()})
        ticket = self._ticket(len(texts))
        for index, (text, row) in enumerate(zip(texts, cached, strict=True)):
            if row is not None:
                ticket.fill(index, row)
            else:
                entry = self._waiting.get(text.digest) or self._running[text.digest]
                entry.waiters.append((ticket, index))
        self._count(len(texts), sum(row is not None for row in cached), len(fresh))
        self._wake.set()
        return ticket

    def _ticket(self, texts: int) -> _Ticket:
        rows = np.empty((texts, self._scorer.card.assay.members))
        return _Ticket(rows, texts, asyncio.get_running_loop().create_future())

    def _count(self, texts: int, cached: int, fresh: int) -> None:
        self._metrics.texts.labels("cached").inc(cached)
        self._metrics.texts.labels("shared").inc(texts - cached - fresh)
        self._count_waiting()

    def _count_waiting(self) -> None:
        self._metrics.queue_depth.inc(len(self._waiting) - self._counted)
        self._counted = len(self._waiting)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._drop_abandoned()
            if not self._waiting:
                self._wake.clear()
                continue
            await self._score_batch(self._take_batch())

    def _drop_abandoned(self) -> None:
        gone = [digest for digest, entry in self._waiting.items() if entry.abandoned]
        for digest in gone:
            del self._waiting[digest]
        self._metrics.texts.labels("abandoned").inc(len(gone))

    def _take_batch(self) -> list[_Entry]:
        entries = list(self._waiting.values())
        chosen = plan_batch([len(entry.text) for entry in entries], self._max_batch_tokens)
        batch = [entries[index] for index in chosen]
        for entry in batch:
            self._running[entry.text.digest] = self._waiting.pop(entry.text.digest)
        self._count_waiting()
        return batch

    async def _score_batch(self, batch: list[_Entry]) -> None:
        texts = [entry.text for entry in batch]
        started_s = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self._thread, self._scorer.score, texts)
        except Exception:
            logger.exception("forward pass failed", extra={"texts": len(texts)})
            for entry in batch:
                _fail(entry, ScoringError("the model failed on this batch; see the server's log"))
        else:
            self._deliver(batch, rows)
        for entry in batch:  # not if cancelled: `close` fails what is left in here
            del self._running[entry.text.digest]
        self._observe(batch, started_s)

    def _deliver(self, batch: list[_Entry], rows: NDArray[np.float64]) -> None:
        for entry, row in zip(batch, rows, strict=True):
            if not np.isfinite(row).all():
                _fail(entry, ScoringError("the model gave a score that is not finite"))
                continue
            self._cache.put(entry.text.digest, row)
            for ticket, index in entry.waiters:
                ticket.fill(index, row)

    def _observe(self, batch: list[_Entry], started_s: float) -> None:
        self._metrics.infer_seconds.observe(time.monotonic() - started_s)
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.batch_tokens.observe(len(batch) * max(len(entry.text) for entry in batch))
        self._metrics.texts.labels("scored").inc(len(batch))
        for entry in batch:
            self._metrics.queue_seconds.observe(started_s - entry.queued_at_s)


def _fail(entry: _Entry, error: AssayError) -> None:
    for ticket, _ in entry.waiters:
        ticket.fail(error)
