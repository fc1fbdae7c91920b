"""Stored baselines on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import DependencyError
from assay.schemas.storage import BaselineSet
from assay.streams.baselines import BaselineStore
from assay.streams.connection import connect
from redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TEXTS = ["zero \0 byte", "emoji 🎈 and 漢字", "\r\n*3\r\n$3\r\nDEL\r\n", '"]}, {"', "m" * 2**20]


def sets(*items: tuple[Any, list[Any], str]) -> list[BaselineSet]:
    return [
        BaselineSet.model_validate({"prompt": prompt, "completions": texts, "policy": policy})
        for prompt, texts, policy in items
    ]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_any_text_comes_back_as_it_was(redis_server: RedisServer, text: str) -> None:
    parts = {"role": "assistant", "content": [{"type": "text", "text": text}], "name": None}
    stored = sets((text, [text, [parts]], text[:256]))
    async with connect(redis_server.url) as client:
        assert await BaselineStore(client).put(stored) == 1
        found = await BaselineStore(client).lookup(text, text[:256])
    assert [item.model_dump(exclude_unset=True) for item in found] == [
        {"policy": text[:256], "completions": [text, [parts]]}
    ]


async def test_many_prompts_come_back_in_the_order_asked(redis_server: RedisServer) -> None:
    numbers = [*range(300), 7, 7]
    async with connect(redis_server.url) as client:
        store = BaselineStore(client)
        await store.put(sets(*((f"p{n}", [f"c{n}"], "sft") for n in range(0, 300, 2))))
        await store.put(sets(("p0", ["other"], "base")))
        found = await store.fetch_many([f"p{n}" for n in numbers], None)
        of_base = await store.fetch_many(["p0", "p2"], "base")
        nothing = await store.fetch_many([], None)
    assert found[0] == {"sft": ["c0"], "base": ["other"]}
    assert found[1:] == [{} if n % 2 else {"sft": [f"c{n}"]} for n in numbers[1:]]
    assert of_base == [{"base": ["other"]}, {}]
    assert nothing == []


async def test_what_was_stored_survives_kill_9(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        store = BaselineStore(client)
        await store.put(sets(("p", ["old"], "sft"), ("q", ["gone"], "sft")))
        await store.put(sets(("p", ["new"], "sft")))
        await store.delete("q", None)
        redis_server.kill()
        redis_server.start()
        assert await store.fetch_many(["p", "q"], None) == [{"sft": ["new"]}, {}]


async def test_damaged_baselines_are_reported_without_their_text(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as client:
        store = BaselineStore(client)
        await store.put(sets(("p", ["a"], "sft")))
        key = (await client.keys("assay:baselines:*"))[0]
        await client.hset(key, "sft", '["private')
        with pytest.raises(DependencyError, match="damaged") as caught:
            await store.lookup("p", None)
        assert caught.value.__cause__ is None
        await store.put(sets(("p", ["a"], "sft")))
        assert (await store.lookup("p", None))[0].completions == ["a"]
