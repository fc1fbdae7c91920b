"""A composite whose served model is promoted: it follows, and its other parts stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet import LATE_S, NAME, Fleet, Replica, eventually, fleet, offline
from redis_server import RedisServer
from reward_server.composite.plan import Companion, Parts, Plan, RuleSpec, Weighing
from toy import ToyScorer

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(300)]

PLAN = Plan(
    served=Weighing(NAME, 3.0, "calibration"),  # the toy's T is 2
    companions=(Companion(Weighing("anchor", -1.0, "none"), "", None),),
    rules=(RuleSpec("length", "length_penalty", 2.0, {"free": 0, "full": 10}),),
)


@pytest.fixture
async def replicas(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(redis_server, tmp_path) as made:
        made.parts = Parts(PLAN, {"anchor": ToyScorer()})
        made.made = lambda version: ToyScorer(version=version, calibrated=version != 3)
        yield made


async def scored_by(replica: Replica, prompt: str) -> int:
    """The version that answers, its composite checked part by part."""
    reply = (await replica.score(prompt, "one two")).json()
    version = int(reply["model"].partition("@")[2])
    expected = {
        NAME: 1.5 * offline(version, prompt, "one two"),
        "anchor": -offline(1, prompt, "one two"),
        "length": -0.4,
    }
    (result,) = reply["results"]
    assert {n: v[0] for n, v in result["components"].items()} == pytest.approx(expected)
    assert result["scores"] == [pytest.approx(sum(expected.values()))]
    return version


async def test_the_composite_follows_a_promotion_under_load(replicas: Fleet) -> None:
    replica = await replicas.add()
    seen: set[int] = set()
    promoted = asyncio.Event()

    async def call(caller: int) -> None:
        number = 0
        while not promoted.is_set():
            number += 1
            seen.add(await scored_by(replica, f"p{caller}.{number}"))

    async def begun() -> bool:
        return bool(seen)

    callers = [asyncio.create_task(call(caller)) for caller in range(4)]
    await eventually(begun, "an answer")
    reply = await replica.http.post(
        f"/v1/models/{NAME}@2/promote", params={"wait_s": LATE_S, "swap_when": "now"}
    )
    promoted.set()
    await asyncio.gather(*callers)
    assert reply.json()["state"] == "done"
    assert 1 in seen
    assert await scored_by(replica, "after") == 2


async def test_a_version_that_does_not_fit_into_the_composite_is_refused(replicas: Fleet) -> None:
    replica = await replicas.add()
    reply = await replica.http.post(
        f"/v1/models/{NAME}@3/promote", params={"wait_s": LATE_S, "swap_when": "now"}
    )
    assert "toy@3 is normalised by its calibration" in reply.text
    assert await scored_by(replica, "after") == 1
