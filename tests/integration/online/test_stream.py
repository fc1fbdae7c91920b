"""Lease, reading, acknowledging and dead letters of the trainer, on a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from assay.errors import DependencyError
from assay.registry.fence import FencedError
from assay.streams.connection import connect
from assay.streams.samples import STREAM, SampleStream
from online_trainer import sample
from redis_server import RedisServer
from reward_trainer.online.lease import LEASE, Lease
from reward_trainer.online.stream import DEAD, START, Entry, Letter, SampleReader, after

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    redis = connect(redis_server.url)
    yield redis
    await redis.aclose()


async def holder(client: Redis, ttl_s: float = 30.0, floor: int = 0) -> Lease:
    lease = Lease(client, ttl_s, lambda: floor)
    assert await lease.take()
    return lease


async def post(client: Redis, count: int) -> list[str]:
    stream = SampleStream(client, max_entries=100_000, idempotency_ttl_s=60)
    return await stream.append([sample(number) for number in range(count)], None)


async def reader(client: Redis, last_id: str = START) -> SampleReader:
    made = SampleReader(client, await holder(client))
    await made.start(last_id)
    return made


async def read_all(made: SampleReader, last_id: str = START) -> list[Entry]:
    found: list[Entry] = []
    while entries := await made.read(last_id):
        found += entries
    return found


async def test_one_holds_the_lease_and_tokens_grow(client: Redis) -> None:
    first, second = Lease(client, 30.0, lambda: 0), Lease(client, 30.0, lambda: 0)
    assert await first.take()
    assert not await second.take()
    assert await first.take()
    await first.release()
    assert await second.take()
    assert (first.token, second.token) == (1, 2)


async def test_a_lease_that_nobody_took_goes_on_after_it_has_run_out(client: Redis) -> None:
    lease = await holder(client)
    await client.delete(LEASE)
    assert await lease.take()
    assert lease.token == 1


async def test_a_trainer_that_was_replaced_can_write_nothing(client: Redis) -> None:
    old = await reader(client)
    ids = await post(client, 3)
    await client.delete(LEASE)  # it was silent for too long
    new = SampleReader(client, await holder(client))
    for write in (
        old.acknowledge(ids),
        old.bury([Letter(ids[0], "reason", "data")]),
        old.start(ids[-1]),
    ):
        with pytest.raises(FencedError, match="another trainer"):
            await write
    assert await client.xlen(STREAM) == 3
    assert not await client.exists(DEAD)
    await new.start(START)
    assert [entry.id for entry in await read_all(new)] == ids


async def test_a_token_exceeds_that_of_the_newest_checkpoint(client: Redis) -> None:
    """Redis has lost its data, and the checkpoint has not."""
    assert (await holder(client, floor=7)).token == 8


async def test_one_that_waited_through_a_wipe_exceeds_checkpoints_that_came_meanwhile(
    client: Redis,
) -> None:
    newest = 0
    first, second = (Lease(client, 30.0, lambda: newest) for _ in range(2))
    assert await first.take()
    assert not await second.take()
    newest = first.token  # the first one writes a checkpoint, and is silent for too long
    await client.flushall()
    assert await second.take()
    assert second.token == 2
    with pytest.raises(FencedError):
        await first.take()


async def test_after_a_wipe_a_trainer_whose_successor_wrote_a_checkpoint_has_been_replaced(
    client: Redis,
) -> None:
    newest = 0
    old = Lease(client, 30.0, lambda: newest)
    assert await old.take()
    newest = 2
    await client.flushall()
    with pytest.raises(FencedError):
        await old.take()


async def test_after_a_wipe_the_trainer_goes_on_with_a_larger_token(client: Redis) -> None:
    made = await reader(client)
    await client.flushall()
    ids = await post(client, 2)
    assert [entry.id for entry in await read_all_or_retry(made)] == ids
    await made.acknowledge(ids)
    assert await client.xlen(STREAM) == 0
    assert not await Lease(client, 30.0, lambda: 0).take()


async def read_all_or_retry(made: SampleReader) -> list[Entry]:
    assert await made.read(START) == []  # the group is made anew
    return await read_all(made)


async def test_after_a_wipe_another_trainer_may_be_first(client: Redis) -> None:
    old = await reader(client)
    await client.flushall()
    await holder(client, floor=1)
    with pytest.raises(FencedError):
        await old.bury([Letter("1-0", "reason", "data")])
    with pytest.raises(FencedError):
        await old.read(START)


async def test_reading_goes_on_from_a_checkpoint_whatever_was_delivered(client: Redis) -> None:
    ids = await post(client, 5)
    made = await reader(client)
    assert [entry.id for entry in await read_all(made)] == ids
    await made.start(ids[1])
    assert [entry.id for entry in await read_all(made)] == ids[2:]


async def test_acknowledged_entries_leave_the_stream(client: Redis) -> None:
    ids = await post(client, 450)
    made = await reader(client)
    await read_all(made)
    await made.acknowledge(ids[:430])
    left: Any = await client.xrange(STREAM)
    assert [entry for entry, _ in left] == ids[430:]
    pending = await client.xpending(STREAM, "trainer")
    assert pending["pending"] == 20
    await made.acknowledge(ids[:430])  # again, after a crash
    assert await client.xlen(STREAM) == 20


async def test_entries_of_strangers_are_read_as_well_as_can_be(client: Redis) -> None:
    made = await reader(client)
    await client.xadd(STREAM, {b"data": b"\xff\xfe", b"\xff": b"x"})
    (entry,) = await read_all(made)
    assert entry.fields == {"data": "\ufffd\ufffd", "\ufffd": "x"}


async def test_a_letter_is_written_once_with_its_reason_and_data(client: Redis) -> None:
    made = await reader(client)
    await made.bury([Letter("1-0", "why", '{"a": "\u00e9"}'), Letter("2-0", "other", "")])
    await made.bury([Letter("1-0", "another reason", "other data")])
    letters = {id_: json.loads(text) for id_, text in (await client.hgetall(DEAD)).items()}
    assert letters == {
        "1-0": {"reason": "why", "data": '{"a": "\u00e9"}'},
        "2-0": {"reason": "other", "data": ""},
    }


async def test_beyond_ten_thousand_letters_the_oldest_are_deleted_and_counted(
    client: Redis,
) -> None:
    made = await reader(client)
    await client.hset(DEAD, mapping={f"{9 + n // 7}-{n % 7}": "{}" for n in range(9_999)})
    await made.bury([Letter("1500-0", "why", "data")])
    assert await client.hlen(DEAD) == 10_000
    await made.bury([Letter("1500-1", "why", "data")])
    ids: Any = await client.hkeys(DEAD)
    left = sorted(tuple(map(int, id_.split("-"))) for id_ in ids)
    every = [(9 + n // 7, n % 7) for n in range(9_999)] + [(1500, 0), (1500, 1)]
    assert left == every[1001:]
    assert await client.get(f"{DEAD}:forgotten") == "1001"


async def test_of_long_data_the_beginning_is_kept(client: Redis) -> None:
    made = await reader(client)
    await made.bury([Letter("1-0", "why", "\u00e9" * 100_000)])
    letter = json.loads((await client.hgetall(DEAD))["1-0"])
    assert letter["data"] == "\u00e9" * 8_000 + "... (100000 characters)"


async def test_while_redis_is_down_everything_says_so(
    client: Redis, redis_server: RedisServer
) -> None:
    made = await reader(client)
    redis_server.kill()
    for call in (made.read(START), made.acknowledge(["1-0"]), made.start(START)):
        with pytest.raises(DependencyError):
            await call
    redis_server.start()
    await post(client, 1)
    assert len(await read_all(made)) == 1


def test_the_id_behind_another() -> None:
    assert after("17-0") == "17-1"
    assert after("17-9") == "17-10"


@pytest.mark.anyio
async def test_renewals_at_once_after_redis_has_lost_the_lease_are_one_trainer(
    client: Redis,
) -> None:
    lease = Lease(client, 5.0, lambda: 0)
    assert await lease.take()
    await client.flushall()
    assert await asyncio.gather(*(lease.take() for _ in range(8))) == [True] * 8
