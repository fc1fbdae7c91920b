"""The queue in front of the stream of samples, without a Redis."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from assay.schemas.scoring import Group
from assay.schemas.storage import Sample
from reward_server.metrics import ServerMetrics
from reward_server.tap import Tap

pytestmark = pytest.mark.anyio
MANY = Group(prompt="p", completions=["c"] * 9_000)


class Gated:
    """A stream that stores nothing until its gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[int] = []
        self.samples: list[Sample] = []

    async def append(self, items: list[Sample], _: str | None) -> list[str]:
        self.batches.append(len(items))
        self.samples += items
        await self.gate.wait()
        return []


async def test_no_more_waits_than_fits() -> None:
    stream, metrics = Gated(), ServerMetrics(CollectorRegistry(), "test", "toy@1")
    tap = Tap(lambda: stream, metrics)  # type: ignore[arg-type, return-value]
    tap.start()
    tap.offer([MANY], "ppo", 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tap.offer([MANY, MANY, MANY], "ppo", 2)  # one is being stored, two fit
    count = metrics.registry.get_sample_value
    name = "reward_server_tapped_samples_total"
    assert count(name, {"outcome": "dropped"}) == 1
    stream.gate.set()
    await tap.close()
    assert sum(stream.batches) == 3


async def test_texts_that_were_scored_otherwise_than_samples_are_trained_on_are_left_out() -> None:
    stream, metrics = Gated(), ServerMetrics(CollectorRegistry(), "test", "toy@1")
    stream.gate.set()
    tap = Tap(lambda: stream, metrics)  # type: ignore[arg-type, return-value]
    tap.start()
    whole = Group(prompt="p", completions=["a", "b"])
    cut = Group(prompt="p", completions=["c", "d", "e"], finished=[True, False, True])
    tap.offer([whole], "ppo", 1, raw=True)
    tap.offer([whole, cut, Group(prompt="p", completions=["f"], finished=[False])], "ppo", 1)
    await tap.close()
    assert [sample.completions for sample in stream.samples] == [["a", "b"], ["c", "e"]]
    assert metrics.registry.get_sample_value("reward_server_untapped_completions_total") == 4
