"""The stream of samples on a real Redis: all of a request or nothing, and once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from assay.errors import (
    DependencyError,
    InvalidInputError,
    OverloadedError,
    PayloadTooLargeError,
)
from assay.schemas.storage import Sample
from assay.streams.connection import connect
from assay.streams.samples import STREAM, SampleStream
from redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def stream(client: Redis, max_entries: int = 100_000) -> SampleStream:
    return SampleStream(client, max_entries=max_entries, idempotency_ttl_s=600)


def samples(count: int, prompt: str = "p") -> list[Sample]:
    return [Sample(prompt=prompt, completions=["a"], policy="ppo", step=n) for n in range(count)]


async def stored(client: Redis) -> dict[str, Sample]:
    entries: Any = await client.xrange(STREAM)
    assert all(fields.keys() == {"schema", "data"} for _, fields in entries)
    return {id_: Sample.model_validate_json(fields["data"]) for id_, fields in entries}


@asynccontextmanager
async def losing_first_answer(server: RedisServer, command: bytes) -> AsyncIterator[str]:
    """A proxy that hangs up instead of passing on the first answer to `command`."""
    socket = Path(server.socket).with_name("proxy.sock")
    lost = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_unix_connection(server.socket)
        while question := await reader.read(2**16):
            redis_writer.write(question)
            answer = await redis_reader.read(2**16)
            if command in question and b"NOSCRIPT" not in answer and not lost.is_set():
                lost.set()
                break
            writer.write(answer)
        for end in (writer, redis_writer):
            end.close()
            await end.wait_closed()

    async with await asyncio.start_unix_server(serve, socket):
        yield f"unix://{socket}"
    assert lost.is_set(), "nothing was lost"


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_answer_that_is_lost_on_the_way_stores_nothing_twice(
    redis_server: RedisServer, key: str | None
) -> None:
    async with losing_first_answer(redis_server, b"EVALSHA") as url, connect(url) as client:
        ids = await stream(client).append(samples(2), key)
    async with connect(redis_server.url) as client:
        assert list(await stored(client)) == ids


async def test_concurrent_retries_store_once_and_get_the_same_ids(
    redis_server: RedisServer,
) -> None:
    items = samples(3)
    async with connect(redis_server.url) as client:
        appended = [stream(client).append(items, "k") for _ in range(20)]
        first, *others = await asyncio.gather(*appended)
        assert others == [first] * 19
        assert await stored(client) == dict(zip(first, items, strict=True))


async def test_a_key_used_again_with_other_samples_is_refused(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        await stream(client).append(samples(2), "k")
        for other in (samples(1), samples(3), samples(2, "q"), samples(2)[::-1]):
            with pytest.raises(InvalidInputError):
                await stream(client).append(other, "k")
        assert len(await stored(client)) == 2


async def test_a_full_stream_takes_all_of_a_request_or_nothing(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        bounded = stream(client, max_entries=5)
        kept = await bounded.append(samples(3), "k")
        with pytest.raises(OverloadedError) as caught:
            await bounded.append(samples(3), "refused")
        assert caught.value.retry_after_s
        assert list(await stored(client)) == kept
        # To the last place; and a retry of what is in the stream needs none.
        await bounded.append(samples(2), None)
        assert await bounded.append(samples(3), "k") == kept
        assert len(await stored(client)) == 5
        # A refusal is not remembered: the same request may come again when there is room.
        await client.xtrim(STREAM, maxlen=0, approximate=False)
        assert len(await bounded.append(samples(3), "refused")) == 3


async def test_a_request_larger_than_the_stream_is_not_told_to_come_again(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as client:
        with pytest.raises(PayloadTooLargeError):
            await stream(client, max_entries=5).append(samples(6), None)


async def test_keys_expire(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        await stream(client).append(samples(1), "k")
        (named,) = await client.keys("assay:idempotency:*")
        await stream(client).append(samples(1), None)
        ttls_s = {key: await client.ttl(key) for key in await client.keys("assay:idempotency:*")}
        assert 590 <= ttls_s.pop(named) <= 600
        assert [0 < ttl_s <= 60 for ttl_s in ttls_s.values()] == [True]
        await client.delete(named)
        await stream(client).append(samples(1), "k")
        assert len(await stored(client)) == 3


async def test_a_thousand_samples_and_strange_texts(redis_server: RedisServer) -> None:
    strange = ["zero \0 byte", "emoji 🎈 and 漢字", "\r\n$3\r\nDEL\r\n", "m" * 2**20]
    items = [*samples(1000), *(samples(1, text)[0] for text in strange)]
    async with connect(redis_server.url) as client:
        ids = await stream(client).append(items, "key with \0, 🎈 and\r\n")
        assert await stored(client) == dict(zip(ids, items, strict=True))
        entries: Any = await client.xrange(STREAM, count=1)
    fields = entries[0][1]
    assert fields["schema"] == "1"
    assert json.loads(fields["data"]) == items[0].model_dump(exclude_unset=True)


async def test_a_flushed_script_is_loaded_again(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        appending = stream(client)
        await appending.append(samples(1), None)
        await client.script_flush()
        await appending.append(samples(1), None)
        assert len(await stored(client)) == 2


async def test_a_record_of_another_type_stops_the_append_with_nothing_stored(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as client:
        await stream(client).append(samples(1), "k")
        (record,) = await client.keys("assay:idempotency:*")
        await client.set(record, "somebody else's")
        with pytest.raises(DependencyError, match="another program"):
            await stream(client).append(samples(1), "k")
        assert len(await stored(client)) == 1


async def test_kill_9_under_load_keeps_what_was_accepted_and_halves_no_request(
    redis_server: RedisServer,
) -> None:
    accepted: dict[str, list[str]] = {}
    enough = asyncio.Event()

    async def send(client: Redis, prompt: str) -> None:
        try:
            accepted[prompt] = await stream(client).append(samples(5, prompt), prompt)
        except DependencyError:
            return
        if len(accepted) > 10:
            enough.set()

    async with connect(redis_server.url) as client:
        sending = [asyncio.create_task(send(client, f"p{n}")) for n in range(300)]
        await enough.wait()
        redis_server.kill()
        await asyncio.gather(*sending)
        assert len(accepted) < 300, "all was over before the kill"
        redis_server.start()
        found = await stored(client)
        for prompt, ids in accepted.items():
            assert [found[id_].prompt for id_ in ids] == [prompt] * 5
        # Every client tries again: what got no answer is stored, once, and the rest not again.
        for n in range(300):
            ids = await stream(client).append(samples(5, f"p{n}"), f"p{n}")
            assert accepted.get(f"p{n}", ids) == ids
        assert len(await stored(client)) == 300 * 5
