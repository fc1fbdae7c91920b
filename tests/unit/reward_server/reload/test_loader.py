"""Loading within the bound of memory, and what is resident against what is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from assay.errors import ModelLoadError
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.scoring import Group, ScoreRequest
from reward_server.metrics import ServerMetrics
from reward_server.reload.loader import Loader, weight_bytes
from reward_server.reload.residency import Residency
from reward_server.reload.source import VersionSource
from reward_server.scoring import Text
from reward_server.versions import Versions
from toy import ToyScorer, toy_settings

pytestmark = pytest.mark.anyio
SHARED = torch.zeros(100)


class Weighty(ToyScorer):
    """400 bytes that all versions share, and 4,000 of its own, which may move off the device."""

    def __init__(self, version: int) -> None:
        super().__init__(version=version)
        self.own = torch.zeros(1000)
        self.is_parked = False

    def tensors(self) -> Iterator[Tensor]:
        return iter([SHARED, self.own, self.own[10:]])

    def park(self) -> bool:
        self.is_parked = True
        return True

    def unpark(self) -> None:
        self.is_parked = False


@dataclass
class Bench:
    versions: Versions
    loader: Loader
    residency: Residency
    loaded: list[int]

    async def settled(self) -> None:
        for _ in range(20_000):
            if self.residency.is_settled:
                return
            await asyncio.sleep(0.001)
        raise AssertionError("still loading")


@asynccontextmanager
async def bench(folder: Path, max_bytes: int | None, damaged: int = 0) -> AsyncIterator[Bench]:
    loaded: list[int] = []

    def load(version: int) -> Weighty:
        if version == damaged:
            raise ModelLoadError("damaged")
        loaded.append(version)
        return Weighty(version)

    settings = toy_settings()
    versions = Versions(settings, ServerMetrics(CollectorRegistry(), "test", "toy@1"), Weighty(1))
    source = VersionSource(Aliases(), Store(str(folder)), load, lambda _: 4000)
    loader = Loader(source, versions, max_bytes)
    residency = Residency(loader, versions)
    await versions.start()
    try:
        yield Bench(versions, loader, residency, loaded)
    finally:
        await residency.close()
        await versions.close()


def test_shared_weights_count_once() -> None:
    assert weight_bytes([Weighty(1)]) == 4400
    assert weight_bytes([Weighty(1), Weighty(2)]) == 8400
    assert weight_bytes([]) == 0


async def test_what_is_wanted_becomes_resident_and_the_rest_leaves(tmp_path: Path) -> None:
    async with bench(tmp_path, None) as b:
        b.residency.want({1, 2, 3}, set(), None)
        await b.settled()
        assert b.versions.numbers == [1, 2, 3]
        b.versions.switch(3, 2)
        b.residency.want({2, 3}, set(), 2)
        await b.settled()
        await asyncio.sleep(0)
        assert b.versions.numbers == [2, 3]
        assert b.versions.previous is not None
        assert b.versions.previous.version == 2


async def test_the_serving_version_never_leaves(tmp_path: Path) -> None:
    async with bench(tmp_path, None) as b:
        b.residency.want({2}, set(), None)
        await b.settled()
        assert b.versions.numbers == [1, 2]


async def test_what_does_not_load_is_told_and_not_tried_at_once_again(tmp_path: Path) -> None:
    async with bench(tmp_path, None, damaged=2) as b:
        b.residency.want({1, 2}, set(), None)
        await b.settled()
        assert b.residency.failed == {2: "damaged"}
        b.residency.want({1}, set(), None)
        assert b.residency.failed == {}


async def test_beyond_the_bound_the_previous_version_waits_in_cpu_memory(tmp_path: Path) -> None:
    async with bench(tmp_path, 8400) as b:
        b.residency.want({1, 2}, set(), None)
        await b.settled()
        b.versions.switch(2, 1)
        b.residency.want({1, 2, 3}, set(), 1)
        await b.settled()
        assert (b.versions.numbers, b.loader.parked, b.residency.failed) == ([2, 3], 1, {})
        b.versions.switch(3, None)
        b.residency.want({1, 3}, set(), None)  # 1 is to come back: it is not loaded again
        await b.settled()
        assert (b.versions.numbers, b.loader.parked, b.loaded) == ([1, 3], None, [2, 3])


async def test_a_leased_previous_version_stays_and_the_load_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, 8400) as b:
        b.residency.want({1, 2}, set(), None)
        await b.settled()
        b.versions.switch(2, 1)
        b.residency.want({1, 2, 3}, {1}, None)
        await b.settled()
        assert b.versions.numbers == [1, 2]
        assert "8,400" in b.residency.failed[3]
        assert "4,000" in b.residency.failed[3]


async def test_a_version_is_gone_only_after_the_request_that_it_answers(tmp_path: Path) -> None:
    async with bench(tmp_path, None) as b:
        b.residency.want({1, 2}, set(), None)
        await b.settled()
        b.versions.switch(2, None)
        resident = b.versions.get(1)
        assert resident is not None
        options = ScoreRequest(groups=[Group(prompt="p", completions=["c"])])
        with resident.in_use():
            b.residency.want({2}, set(), None)
            await b.settled()
            assert b.versions.get(1) is None
            await asyncio.sleep(0.01)
            scored = await resident.scoring.score([Text("p", "c", "")], options)
        assert scored.scores.shape == (1, 3)
