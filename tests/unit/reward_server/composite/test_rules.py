"""Rules of an operator in processes of their own: what goes wrong in one text stays there."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from assay.errors import OverloadedError
from reward_server.composite.plan import RuleSpec
from reward_server.composite.rule_pool import PoolLimits, RulePool
from reward_server.metrics import ServerMetrics
from reward_server.scoring import Text
from rule_package import write_rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def metrics() -> ServerMetrics:
    return ServerMetrics(CollectorRegistry(), "r", "m@1")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", write_rules(tmp_path), prepend=os.pathsep)


@asynccontextmanager
async def pool(
    metrics: ServerMetrics, *rules: str, timeout_s: float = 30.0, max_texts: int = 100
) -> AsyncIterator[RulePool]:
    specs = [RuleSpec(rule, rule, 1.0, {}) for rule in rules]
    made = RulePool(specs, PoolLimits(1, timeout_s, max_texts), metrics)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def texts(*completions: str, label: object = None) -> list[Text]:
    return [Text("p", completion, "path", label=label) for completion in completions]


async def test_each_rule_gives_each_text_a_value(metrics: ServerMetrics) -> None:
    async with pool(metrics, "by_length", "by_label") as rules:
        values = await rules.score(texts(*("c" * n for n in range(1, 41)), label=7), 30.0)
    assert values.tolist() == [[1.0 + 10 * n, 7.0] for n in range(1, 41)]


async def test_a_rule_that_fails_takes_no_other_text_with_it(
    metrics: ServerMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    completions = ["good", "raise", "exit", "raise it", "text", "nan", "good"]
    async with pool(metrics, "moody") as rules:
        with caplog.at_level(logging.WARNING):
            values = await rules.score(texts(*completions), 30.0)
    gaps = [np.isnan(value) for value in values[:, 0]]
    assert gaps == [False, True, True, True, True, True, False]
    counted = generate_latest(metrics.registry).decode()
    assert 'rule_texts_total{component="moody",outcome="scored"} 2.0' in counted
    assert 'rule_texts_total{component="moody",outcome="failed"} 5.0' in counted
    reasons = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert len(reasons) == len(set(reasons)) == 4  # both that raise are one reason
    assert reasons[0].startswith("ValueError in operator_rules.py:")


async def test_the_time_that_was_left_is_no_reason_of_its_own(
    metrics: ServerMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool(metrics, "moody") as rules:
        with caplog.at_level(logging.WARNING):
            for time_s in (0.1, 0.2):
                await rules.score(texts("hang"), time_s)
    assert len([record for record in caplog.records if hasattr(record, "reason")]) == 1


async def test_a_rule_with_a_reason_for_each_text_does_not_fill_the_log(
    metrics: ServerMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool(metrics, "moody", max_texts=200) as rules:
        with caplog.at_level(logging.WARNING):
            await rules.score(texts(*(f"kind {n}" for n in range(120))), 30.0)
    assert len([record for record in caplog.records if hasattr(record, "reason")]) == 100


async def test_a_rule_that_hangs_is_ended_and_the_event_loop_goes_on(
    metrics: ServerMetrics,
) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async with pool(metrics, "moody", timeout_s=1.0) as rules:
        ticking = asyncio.create_task(tick())
        values = await rules.score(texts("hang", "good"), 30.0)
        ticking.cancel()
    assert np.isnan(values[:, 0]).tolist() == [True, False]
    assert ticks > 10  # in the second that the rule hung
    counted = generate_latest(metrics.registry).decode()
    assert 'rule_texts_total{component="moody",outcome="timeout"} 1.0' in counted


async def test_a_pattern_that_backtracks_for_ever_is_ended_too(metrics: ServerMetrics) -> None:
    spec = RuleSpec("regex", "regex", 1.0, {"pattern": "^(a+)+$"})
    made = RulePool([spec], PoolLimits(1, 1.0, 100), metrics)
    await made.start()
    values = await made.score(texts("a" * 40 + "b", "aaa"), 30.0)
    await made.close()
    assert np.isnan(values[0, 0])
    assert values[1, 0] == 1.0


async def test_a_text_that_had_no_turn_in_time_is_asked_for_again(metrics: ServerMetrics) -> None:
    async with pool(metrics, "moody") as rules:
        with pytest.raises(OverloadedError, match="have not come to every text in time"):
            await rules.score(texts("good", "hang", "good"), 1.0)
        assert (await rules.score(texts("good"), 30.0)).tolist() == [[1.0]]


async def test_too_many_texts_are_refused_whole(metrics: ServerMetrics) -> None:
    async with pool(metrics, "by_length", max_texts=2) as rules:
        with pytest.raises(OverloadedError):
            await rules.score(texts("a", "b", "c"), 30.0)
        assert (await rules.score(texts("a", "b"), 30.0)).shape == (2, 1)


async def test_a_caller_who_leaves_frees_the_process(metrics: ServerMetrics) -> None:
    async with pool(metrics, "moody", timeout_s=1.0) as rules:
        waiting = asyncio.create_task(rules.score(texts("hang", *["hang"] * 20), 600.0))
        await asyncio.sleep(0.1)
        waiting.cancel()
        values = await rules.score(texts("good"), 30.0)
    assert values.tolist() == [[1.0]]
