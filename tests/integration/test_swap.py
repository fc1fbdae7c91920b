"""Promotion and rollback over several replicas, with a real Redis and a real store."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import torch
from torch import Tensor

from assay.errors import ModelLoadError
from assay.models.scorer import Scorer
from assay.registry.store import Store
from fleet import LATE_S, NAME, Fleet, Relay, Replica, check, eventually, fleet, publish
from redis_server import RedisServer
from toy import ToyScorer, serving, toy_settings

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
async def relay(redis_server: RedisServer) -> AsyncIterator[Relay]:
    made = Relay(redis_server.socket.parent, redis_server)
    await made.open()
    yield made
    await made.cut()


@pytest.fixture
async def replicas(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(redis_server, tmp_path) as made:
        yield made


async def promote(replica: Replica, version: int, **query: Any) -> httpx.Response:
    params = {"wait_s": LATE_S, **query}
    return await replica.http.post(f"/v1/models/{NAME}@{version}/promote", params=params)


async def rollback(replica: Replica) -> httpx.Response:
    return await replica.http.post(f"/v1/models/{NAME}/rollback", params={"wait_s": LATE_S})


class Load:
    """Requests to all replicas, one after the other from each caller, until the block ends."""

    def __init__(self, replicas: list[Replica], callers: int = 6) -> None:
        self._replicas = replicas
        self._callers = callers
        self._stop = False
        self.versions: list[int] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._call(i)) for i in range(self._callers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def until(self, version: int) -> None:
        """Return when a version has answered."""

        async def answered() -> bool:
            return version in self.versions

        await eventually(answered, f"an answer of version {version}")

    async def _call(self, caller: int) -> None:
        number = 0
        while not self._stop:
            number += 1
            replica = random.choice(self._replicas)
            prompt, completion = f"p{caller}.{number}", "c"
            reply = await replica.score(prompt, completion)
            self.versions.append(check(reply, prompt, completion))
            await asyncio.sleep(random.uniform(0, 0.004))


async def test_a_promotion_under_load_fails_no_request_and_every_score_is_its_versions(
    replicas: Fleet,
) -> None:
    first, second = await replicas.add(), await replicas.add()
    async with Load([first, second]) as load:
        await load.until(1)
        reply = await promote(first, 2)
        assert (reply.status_code, reply.json()["state"]) == (200, "done")
        await load.until(2)
    assert set(load.versions) == {1, 2}
    assert [await first.version(), await second.version()] == [2, 2]
    assert reply.json()["model"] == "toy@2"
    assert len(reply.json()["replicas"]) == 2
    aliases = Store(str(replicas.store)).aliases(NAME)
    assert (aliases.serving, aliases.previous, aliases.anchor, aliases.epoch) == (2, 1, 2, 1)
    cards = await second.cards()
    assert {v: (card["alias"], card["replicas"]) for v, card in cards.items()} == {
        1: (["previous"], 2),
        2: (["serving", "anchor"], 2),
    }


async def test_a_rollback_goes_back_without_a_load_and_there_is_only_one_step(
    replicas: Fleet,
) -> None:
    replica = await replicas.add()
    nothing = await rollback(replica)
    assert nothing.status_code == 409
    await promote(replica, 2)
    back = await rollback(replica)
    assert (back.status_code, back.json()["kind"], back.json()["model"]) == (
        200,
        "rollback",
        "toy@1",
    )
    assert (await replica.version(), replica.loaded) == (1, [2])


async def test_what_is_neither_serving_nor_previous_leaves_memory(replicas: Fleet) -> None:
    replica = await replicas.add()
    for version in (2, 3):
        assert (await promote(replica, version)).status_code == 200

    async def only_two() -> bool:
        return list(await replica.cards()) == [2, 3]

    await eventually(only_two, "version 1 to leave")
    assert (await replica.score("p", "c", "toy@1")).status_code == 409


@pytest.mark.parametrize(
    ("callers", "pause_s", "quiet_deadline_s"), [(3, 0.1, 0.0), (3, 0.1, 1.0), (1, 1.0, 60.0)]
)
async def test_no_group_is_split_in_quiet_mode(
    redis_server: RedisServer, tmp_path: Path, callers: int, pause_s: float, quiet_deadline_s: float
) -> None:
    """Groups are eight requests of one prompt within 30 ms. Where they leave no gap, or none is
    waited for, those under way stay on the old version."""
    answers: dict[str, set[int]] = {}

    async def one(replica: Replica, prompt: str, number: int) -> None:
        await asyncio.sleep(random.uniform(0, 0.03))
        reply = await replica.score(prompt, f"c{number}")
        answers.setdefault(prompt, set()).add(check(reply, prompt, f"c{number}"))

    options = {"quiet_ms": 500, "quiet_deadline_s": quiet_deadline_s}
    async with fleet(redis_server, tmp_path, **options) as made:
        both = [await made.add(), await made.add()]
        stop = asyncio.Event()

        async def caller(name: int) -> None:
            group = 0
            while not stop.is_set():
                group += 1
                prompt = f"{name}.{group}"
                await asyncio.gather(*(one(random.choice(both), prompt, n) for n in range(8)))
                await asyncio.sleep(random.uniform(0.5, 1.5) * pause_s)

        tasks = [asyncio.create_task(caller(name)) for name in range(callers)]
        for version in (2, 3):
            assert (await promote(both[version % 2], version)).status_code == 200
            enough = len(answers) + callers + 1

            async def more(enough: int = enough) -> bool:
                return len(answers) >= enough

            await eventually(more, "groups on the new version")
        stop.set()
        await asyncio.gather(*tasks)
        split = [await replica.metric("reward_server_split_prompts_total") for replica in both]
    assert set().union(*answers.values()) >= {2, 3}
    assert {prompt: seen for prompt, seen in answers.items() if len(seen) > 1} == {}
    assert split == [0, 0]


async def test_now_does_not_wait_and_counts_the_prompts_it_splits(replicas: Fleet) -> None:
    replica = await replicas.add(quiet_ms=100_000)
    await replica.score("p", "first")
    reply = await promote(replica, 2, swap_when="now")
    assert reply.status_code == 200
    assert check(await replica.score("p", "second"), "p", "second") == 2
    assert await replica.metric("reward_server_split_prompts_total") == 1


async def test_quiet_waits_until_requests_in_flight_are_answered(replicas: Fleet) -> None:
    """The request began on the old version and ends on it, however long it takes."""
    gate = threading.Event()
    first = ToyScorer()
    replicas.made = lambda version: first if version == 1 else ToyScorer(version=version)
    replica = await replicas.add(quiet_deadline_s=60)
    first.before = lambda _: None if gate.wait(LATE_S) else None
    slow = asyncio.create_task(replica.score("slow", "c"))
    reply = await promote(replica, 2, wait_s=0.5)
    assert (reply.status_code, reply.json()["state"]) in [(202, "prepare"), (202, "wait")]
    gate.set()
    assert check(await slow, "slow", "c") == 1

    async def switched() -> bool:
        return await replica.version() == 2

    identifier = reply.json()["id"]

    async def done() -> bool:
        shown = await replica.http.get(f"/v1/promotions/{identifier}")
        return bool(shown.json()["state"] == "done")

    await eventually(done, "the end of the promotion")
    assert await switched()


async def test_a_draining_server_lets_nobody_wait_for_a_promotion(replicas: Fleet) -> None:
    gate = threading.Event()
    replicas.before_load = lambda _: None if gate.wait(LATE_S) else None
    replica = await replicas.add()
    waiting = asyncio.create_task(promote(replica, 2, wait_s=60))

    async def begun() -> bool:
        return bool(replica.app.state.runtime.in_flight == 1)

    await eventually(begun, "the request")
    assert await replica.app.state.runtime.drain(LATE_S) == 0
    assert (await waiting).status_code == 202
    gate.set()


async def test_a_version_that_does_not_load_is_refused_with_the_reason_and_may_be_mended(
    replicas: Fleet,
) -> None:
    first, second = await replicas.add(), await replicas.add()

    def damaged(_: int) -> None:
        raise ModelLoadError("adapter 3 differs from its digest")

    replicas.before_load = damaged
    refused = await promote(second, 2)
    assert refused.status_code == 409
    assert "adapter 3 differs from its digest" in refused.json()["detail"]
    assert [await first.version(), await second.version()] == [1, 1]
    assert Store(str(replicas.store)).aliases(NAME).serving in (None, 1)
    replicas.before_load = lambda _: None
    assert (await promote(second, 2)).status_code == 200
    assert await first.version() == 2


async def test_two_promotions_at_once_are_refused_by_name(replicas: Fleet) -> None:
    first, second = await replicas.add(), await replicas.add()
    gate = threading.Event()
    replicas.before_load = lambda _: None if gate.wait(LATE_S) else None
    begun = await promote(first, 2, wait_s=0)
    assert (begun.status_code, begun.json()["state"]) == (202, "prepare")
    other = await promote(second, 3, wait_s=0)
    again = await rollback(second)
    gate.set()
    assert (other.status_code, again.status_code) == (409, 409)
    assert "toy@2" in other.json()["detail"]


async def test_a_replica_that_joins_in_prepare_loads_before_it_is_ready(replicas: Fleet) -> None:
    first = await replicas.add()
    gate = threading.Event()
    replicas.before_load = lambda _: None if gate.wait(LATE_S) else None
    begun = await promote(first, 2, wait_s=0)
    joining = asyncio.create_task(replicas.add())
    await asyncio.sleep(0.3)
    assert not joining.done()
    gate.set()
    joined = await joining

    async def both() -> bool:
        return [await first.version(), await joined.version()] == [2, 2]

    await eventually(both, "the switch on both")
    assert joined.loaded == [2]
    shown = await joined.http.get(f"/v1/promotions/{begun.json()['id']}")
    assert len(shown.json()["replicas"]) == 2


async def test_a_replica_that_starts_later_holds_serving_and_previous(replicas: Fleet) -> None:
    first = await replicas.add()
    await promote(first, 2)
    late = await replicas.add()
    assert sorted(await late.cards()) == [1, 2]
    assert await late.version() == 2
    assert check(await late.score("p", "c", "toy@1"), "p", "c") == 1


async def test_a_replica_that_dies_in_prepare_holds_nobody_up(
    relay: Relay, replicas: Fleet
) -> None:
    stays = await replicas.add()
    dies = await replicas.add(relay.url)
    gate = threading.Event()
    replicas.before_load = lambda _: None if gate.wait(LATE_S) else None
    begun = await promote(dies, 2, wait_s=0)  # the one that coordinates, as likely as not
    await relay.cut()
    gate.set()

    async def done() -> bool:
        shown = await stays.http.get(f"/v1/promotions/{begun.json()['id']}")
        return bool(shown.json()["state"] == "done")

    await eventually(done, "the end of the promotion")
    assert await stays.version() == 2
    # Cut off, it names the version that it goes on with; on its return it follows.
    assert await dies.version() == 1
    await relay.open()

    async def returned() -> bool:
        return await dies.version() == 2

    await eventually(returned, "the return")


async def test_redis_killed_and_started_again(replicas: Fleet, redis_server: RedisServer) -> None:
    replica = await replicas.add()
    await promote(replica, 2)
    redis_server.kill()
    down = await promote(replica, 3)
    assert down.status_code == 503
    assert await replica.version() == 2
    late = asyncio.create_task(replicas.add())  # takes the alias from the store
    assert await (await asyncio.wait_for(late, LATE_S)).version() == 2
    redis_server.start()

    async def promoted() -> bool:
        return (await promote(replica, 3)).status_code == 200

    await eventually(promoted, "a promotion")
    assert await replica.version() == 3


async def test_redis_wiped_is_rebuilt_from_the_store_and_epochs_go_on(
    replicas: Fleet, redis_server: RedisServer
) -> None:
    replica = await replicas.add()
    await promote(replica, 2)
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.flushall()

    async def promoted() -> bool:
        return (await promote(replica, 3)).status_code == 200

    await eventually(promoted, "a promotion")
    aliases = Store(str(replicas.store)).aliases(NAME)
    assert (aliases.epoch, aliases.serving, aliases.previous) == (2, 3, 2)


async def test_a_pin_keeps_its_version_on_all_replicas(replicas: Fleet) -> None:
    first, second = await replicas.add(), await replicas.add()
    assert await first.version("toy@1") == 1
    for version in (2, 3):
        assert (await promote(first, version)).status_code == 200
    await asyncio.sleep(1.2)  # more than a round of every follower
    assert [await first.version("toy@1"), await second.version("toy@1")] == [1, 1]
    assert [await first.version(), await second.version()] == [3, 3]
    assert (await first.score("p", "c", "toy@4")).status_code == 409


class Heavy(ToyScorer):
    """A toy with weights of 4,000 bytes."""

    def __init__(self, version: int) -> None:
        super().__init__(version=version)
        self.weights = torch.zeros(1000)

    def tensors(self) -> Iterator[Tensor]:
        return iter([self.weights])


async def test_beyond_the_memory_bound_a_promotion_is_refused_with_the_figures(
    replicas: Fleet,
) -> None:
    def heavy(version: int) -> Scorer:
        return Heavy(version)

    replicas.made = heavy
    replica = await replicas.add(max_resident_bytes=8000)
    assert (await promote(replica, 2)).status_code == 200
    # Two fit. The previous one makes room for the third, and nobody asks for it.
    assert (await promote(replica, 3)).status_code == 200
    tight = await replicas.add(max_resident_bytes=7999)
    assert await tight.version() == 3
    refused = await promote(tight, 4)
    assert refused.status_code == 409
    assert "4,000" in refused.json()["detail"]
    assert "7,999" in refused.json()["detail"]
    assert [await replica.version(), await tight.version()] == [3, 3]


async def test_what_cannot_be_promoted(replicas: Fleet) -> None:
    replica = await replicas.add()
    publish(replicas.store, 5, status="rejected")
    replies = {
        "rejected": await promote(replica, 5),
        "serving already": await promote(replica, 1),
        "not there": await promote(replica, 9),
        "other name": await replica.http.post("/v1/models/other@2/promote"),
        "no version": await replica.http.post(f"/v1/models/{NAME}/promote"),
        "version in rollback": await replica.http.post(f"/v1/models/{NAME}@1/rollback"),
        "wait": await promote(replica, 2, wait_s=301),
        "when": await promote(replica, 2, swap_when="soon"),
        "unknown": await replica.http.get("/v1/promotions/nothing"),
    }
    assert {name: reply.status_code for name, reply in replies.items()} == {
        "rejected": 409,
        "serving already": 409,
        "not there": 404,
        "other name": 404,
        "no version": 422,
        "version in rollback": 422,
        "wait": 422,
        "when": 422,
        "unknown": 404,
    }
    assert "rejected by the gate" in replies["rejected"].json()["detail"]
    assert (await promote(replica, 5, force=True)).status_code == 200


async def test_a_server_without_redis_or_with_a_fixed_version_promotes_nothing(
    redis_server: RedisServer,
) -> None:
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        fixed = await http.post("/v1/models/toy@2/promote")
    assert fixed.status_code == 409
    assert "--model toy" in fixed.json()["detail"]


async def test_promotions_need_the_scope_admin(replicas: Fleet) -> None:
    replica = await replicas.add(keys="scorer:score+samples,boss:admin+score")
    headers = {"Authorization": "Bearer scorer"}
    for method, path in (
        ("POST", f"/v1/models/{NAME}@2/promote"),
        ("POST", f"/m/{NAME}/v1/models/{NAME}@2/promote"),
        ("POST", f"/v1/models/{NAME}/rollback"),
        ("GET", "/v1/promotions/x"),
    ):
        assert (await replica.http.request(method, path, headers=headers)).status_code == 403
    boss = {"Authorization": "Bearer boss"}
    reply = await replica.http.post(
        f"/v1/models/{NAME}@2/promote", headers=boss, params={"wait_s": LATE_S}
    )
    assert reply.status_code == 200


async def test_a_store_that_cannot_be_written_stops_neither_promotion_nor_rollback(
    replicas: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reward_server.reload.follower._STORE_PATIENCE_S", 0.3)
    replica = await replicas.add()
    aliases = replicas.store / NAME / "aliases.json"
    aliases.unlink(missing_ok=True)
    aliases.mkdir()  # nothing can be written under this name

    assert (await promote(replica, 2)).status_code == 200
    assert (await promote(replica, 3)).status_code == 200
    assert (await rollback(replica)).status_code == 200
    assert await replica.version() == 2

    aliases.rmdir()

    async def caught_up() -> bool:
        stored = Store(str(replicas.store)).aliases(NAME)
        return (stored.epoch, stored.serving, stored.previous) == (3, 2, 3)

    await eventually(caught_up, "the store to hold what serves")
