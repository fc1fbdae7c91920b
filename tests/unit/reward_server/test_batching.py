from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from assay.errors import DeadlineExceededError, NotReadyError, OverloadedError, ScoringError
from assay.models.scorer import EncodedInput
from reward_server.batching import Batcher
from reward_server.metrics import ServerMetrics
from toy import ToyScorer, toy_scores

pytestmark = pytest.mark.anyio
LATE_S = 20.0


def texts(*rows: str) -> list[EncodedInput]:
    return [EncodedInput(tuple(row.encode())) for row in rows]


class Gate:
    """Holds the forward pass back until it is opened, and says when one has begun."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _: Sequence[EncodedInput]) -> None:
        self.entered.set()
        assert self.opened.wait(LATE_S)

    async def wait_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, LATE_S)


@asynccontextmanager
async def batcher(
    scorer: ToyScorer, tokens: int = 1000, queue: int = 100, cache: int = 0
) -> AsyncIterator[Batcher]:
    thread = ThreadPoolExecutor(1)
    made = Batcher(
        scorer,
        thread,
        max_batch_tokens=tokens,
        max_queue_texts=queue,
        cache_bytes=cache,
        metrics=ServerMetrics(CollectorRegistry(), "test", "toy@1"),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        thread.shutdown(wait=False)


async def test_rows_come_back_in_the_order_of_the_request() -> None:
    rows = ["ccc", "a", "bbbbbbbb", "a", "dd"]
    async with batcher(ToyScorer(), tokens=8) as batch:
        scores = await batch.score(texts(*rows), LATE_S)
    np.testing.assert_allclose(scores, [toy_scores(row.encode(), 3) for row in rows])


async def test_an_idle_batcher_scores_at_once_and_a_busy_one_gathers() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer) as batch:
        first = asyncio.create_task(batch.score(texts("first"), LATE_S))
        await gate.wait_entered()
        others = [asyncio.create_task(batch.score(texts(f"o{i}"), LATE_S)) for i in range(20)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *others)
    assert [len(rows) for rows in scorer.batches] == [1, 20]


async def test_equal_texts_are_scored_once_also_while_one_is_running() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer) as batch:
        tasks = [asyncio.create_task(batch.score(texts("same"), LATE_S))]
        await gate.wait_entered()
        tasks += [asyncio.create_task(batch.score(texts("same", "same"), LATE_S)) for _ in "abc"]
        await asyncio.sleep(0)
        gate.opened.set()
        results = await asyncio.gather(*tasks)
    assert sum(len(rows) for rows in scorer.batches) == 1
    assert all(row.tolist() == toy_scores(b"same", 3) for rows in results for row in rows)


async def test_the_cache_answers_a_second_time() -> None:
    scorer = ToyScorer()
    async with batcher(scorer, cache=10_000) as batch:
        once = await batch.score(texts("a", "b"), LATE_S)
        again = await batch.score(texts("b", "a"), LATE_S)
    assert sum(len(rows) for rows in scorer.batches) == 2
    assert again.tolist() == once[::-1].tolist()


async def test_a_text_that_nobody_waits_for_any_more_is_dropped() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer) as batch:
        first = asyncio.create_task(batch.score(texts("first"), LATE_S))
        await gate.wait_entered()
        gone = asyncio.create_task(batch.score(texts("gone", "shared"), LATE_S))
        stays = asyncio.create_task(batch.score(texts("shared"), LATE_S))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        gate.opened.set()
        await asyncio.gather(first, stays)
    assert [bytes(text.ids) for rows in scorer.batches for text in rows] == [b"first", b"shared"]


async def test_a_full_queue_refuses_the_whole_request_and_takes_the_next_that_fits() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer, queue=3) as batch:
        first = asyncio.create_task(batch.score(texts("first"), LATE_S))
        await gate.wait_entered()
        fits = asyncio.create_task(batch.score(texts("a", "b"), LATE_S))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as caught:
            await batch.score(texts("c", "d"), LATE_S)
        assert caught.value.retry_after_s
        last = asyncio.create_task(batch.score(texts("c"), LATE_S))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, fits, last)
    assert sum(len(rows) for rows in scorer.batches) == 4


async def test_a_deadline_ends_the_wait() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer) as batch:
        with pytest.raises(DeadlineExceededError):
            await batch.score(texts("late"), 0.05)
        gate.opened.set()


async def test_a_score_that_is_not_finite_fails_its_own_request_only() -> None:
    scorer = ToyScorer()
    async with batcher(scorer) as batch:
        good, bad = await asyncio.gather(
            batch.score(texts("good"), LATE_S),
            batch.score(texts("bad\0"), LATE_S),
            return_exceptions=True,
        )
    assert isinstance(bad, ScoringError)
    assert not isinstance(good, BaseException)


async def test_a_forward_pass_that_fails_leaves_the_next_one_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scorer = ToyScorer()

    def fail_once(_: Sequence[EncodedInput]) -> None:
        if len(scorer.batches) == 1:
            raise RuntimeError("no memory")

    scorer.before = fail_once
    async with batcher(scorer) as batch:
        with pytest.raises(ScoringError):
            await batch.score(texts("a"), LATE_S)
        assert (await batch.score(texts("a"), LATE_S)).shape == (1, 3)
    assert "no memory" in caplog.text


async def test_closing_fails_what_still_waits() -> None:
    scorer, gate = ToyScorer(), Gate()
    scorer.before = gate
    async with batcher(scorer) as batch:
        task = asyncio.create_task(batch.score(texts("a"), LATE_S))
        await gate.wait_entered()
        closing = asyncio.create_task(batch.close())
        with pytest.raises(NotReadyError):
            await task
        gate.opened.set()
        await closing


async def test_two_hundred_callers_get_their_own_scores() -> None:
    rows = [f"text number {i} {'x' * (i % 37)}" for i in range(200)]
    async with batcher(ToyScorer(), tokens=300, queue=500) as batch:
        results = await asyncio.gather(*(batch.score(texts(row), LATE_S) for row in rows))
    for row, result in zip(rows, results, strict=True):
        np.testing.assert_allclose(result, [toy_scores(row.encode(), 3)])
