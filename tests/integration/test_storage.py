"""Baselines and samples through the app, with a real Redis that gets killed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from redis_server import RedisServer
from toy import serving, toy_scores, toy_settings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

HH = "\n\nHuman: hello\n\nAssistant:"
MESSAGES = [{"role": "user", "content": "hello"}]
SAMPLE = {"prompt": "p", "completions": ["a", "b"], "policy": "ppo", "step": 3}


def baseline(prompt: Any, completions: list[Any], policy: str = "sft") -> dict[str, Any]:
    return {"prompt": prompt, "completions": completions, "policy": policy}


async def put(http: httpx.AsyncClient, *items: dict[str, Any]) -> None:
    reply = await http.put("/v1/baselines", json={"items": items})
    assert (reply.status_code, reply.json()) == (200, {"stored": len(items)})


async def lookup(http: httpx.AsyncClient, **query: Any) -> Any:
    reply = await http.post("/v1/baselines/lookup", json=query)
    assert reply.status_code == 200, reply.text
    return reply.json()["items"]


async def until_ok(request: Callable[[], Any], timeout_s: float = 60.0) -> httpx.Response:
    deadline_s = time.monotonic() + timeout_s
    while True:
        reply: httpx.Response = await request()
        if reply.is_success or time.monotonic() > deadline_s:
            return reply
        await asyncio.sleep(0.1)


async def test_baselines_are_replaced_by_prompt_and_policy(redis_server: RedisServer) -> None:
    tool = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        await put(http, baseline(HH, ["old"]), baseline(HH, ["zero \0 and émoji 🎈"], "base"))
        await put(http, baseline(MESSAGES, ["new", tool]))
        # However the same turn is written, it is the same prompt.
        found = {item["policy"]: item["completions"] for item in await lookup(http, prompt="hello")}
        assert found == {"base": ["zero \0 and émoji 🎈"], "sft": ["new", tool]}
        assert len(await lookup(http, prompt=HH, policy="sft")) == 1
        gone = await http.post("/v1/baselines/delete", json={"prompt": HH, "policy": "sft"})
        assert gone.json() == {"deleted": 1}
        assert [item["policy"] for item in await lookup(http, prompt=HH)] == ["base"]
        gone = await http.post("/v1/baselines/delete", json={"prompt": HH})
        assert gone.json() == {"deleted": 1}
        assert await lookup(http, prompt=HH) == []


async def test_contrastive_finds_stored_baselines_or_says_which_are_missing(
    redis_server: RedisServer,
) -> None:
    groups = [{"prompt": p, "completions": ["x"]} for p in ("p", "q")]
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        await put(http, baseline("p", ["a", "b"]))
        missing = await http.post("/v1/contrastive", json={"groups": groups})
        assert missing.status_code == 422
        assert [e["path"] for e in missing.json()["errors"]] == ["groups[1].prompt"]
        await put(http, baseline("q", ["c"]))
        found = (await http.post("/v1/contrastive", json={"groups": groups})).json()["results"]
        await put(http, baseline("p", ["d"], "base"))
        several = await http.post("/v1/contrastive", json={"groups": groups})
        named = await http.post("/v1/contrastive", json={"groups": groups, "policy": "sft"})
        other = await http.post("/v1/contrastive", json={"groups": groups, "policy": "nobody"})
    score = np.mean(toy_scores(b"px", 3))
    mean = np.mean([toy_scores(b"pa", 3), toy_scores(b"pb", 3)])
    assert found[0]["rewards"] == [pytest.approx(score - mean)]
    assert found[0]["baseline"] == {
        "value": pytest.approx(mean),
        "std": pytest.approx(0.01),  # two baselines, .02 apart on average over members
        "count": 2,
        "source": "stored",
    }
    assert (several.status_code, named.status_code, other.status_code) == (409, 200, 422)
    assert "base, sft" in several.json()["detail"]


async def test_leave_one_out_stands_in_only_where_nothing_is_stored(
    redis_server: RedisServer,
) -> None:
    groups = [{"prompt": p, "completions": ["x", "y"]} for p in ("p", "q")]
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        await put(http, baseline("p", ["a"]))
        reply = await http.post(
            "/v1/contrastive", json={"groups": groups, "missing": "leave_one_out"}
        )
    sources = [result["baseline"]["source"] for result in reply.json()["results"]]
    assert sources == ["stored", "leave_one_out"]


async def test_samples_are_stored_once_however_often_they_are_sent(
    redis_server: RedisServer,
) -> None:
    body = {"items": [SAMPLE, {**SAMPLE, "prompt": MESSAGES}]}
    headers = {"Idempotency-Key": "run-1-step-3"}
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        replies = await asyncio.gather(
            *(http.post("/v1/samples", json=body, headers=headers) for _ in range(20))
        )
        other = await http.post("/v1/samples", json={"items": [SAMPLE]}, headers=headers)
        without = await http.post("/v1/samples", json=body)
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.text for reply in replies}) == 1
    assert replies[0].json()["accepted"] == 2
    assert other.status_code == 422
    assert without.json()["ids"] != replies[0].json()["ids"]
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        entries: Any = client.xrange("assay:samples")
    assert len(entries) == 4
    identifier, fields = entries[0]
    assert identifier.decode() == replies[0].json()["ids"][0]
    assert fields[b"schema"] == b"1"
    assert json.loads(fields[b"data"]) == SAMPLE


async def test_a_full_stream_takes_nothing_and_says_so(redis_server: RedisServer) -> None:
    settings = toy_settings(redis_url=redis_server.url, max_stream_entries=3)
    async with serving(settings) as http:
        assert (await http.post("/v1/samples", json={"items": [SAMPLE] * 2})).status_code == 202
        full = await http.post("/v1/samples", json={"items": [SAMPLE] * 2})
        fits = await http.post("/v1/samples", json={"items": [SAMPLE]})
    assert (full.status_code, fits.status_code) == (503, 202)
    assert int(full.headers["retry-after"]) >= 1
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        assert client.xlen("assay:samples") == 3


async def test_many_samples_in_one_request(redis_server: RedisServer) -> None:
    body, headers = {"items": [SAMPLE] * 9000}, {"Idempotency-Key": "many"}
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        first = await http.post("/v1/samples", json=body, headers=headers)
        again = await http.post("/v1/samples", json=body, headers=headers)
    assert first.status_code == 202
    assert len(first.json()["ids"]) == 9000
    assert again.json() == first.json()


async def test_redis_killed_while_serving(redis_server: RedisServer) -> None:
    scoring = {"groups": [{"prompt": "p", "completions": ["x"]}]}
    async with serving(toy_settings(redis_url=redis_server.url)) as http:

        async def send_samples() -> httpx.Response:
            return await http.post("/v1/samples", json={"items": [SAMPLE]})

        await put(http, baseline("p", ["a"]))
        accepted = (await send_samples()).json()["ids"]
        redis_server.kill()
        down = [
            await send_samples(),
            await http.put("/v1/baselines", json={"items": [baseline("p", ["b"])]}),
            await http.post("/v1/contrastive", json=scoring),
        ]
        assert [reply.status_code for reply in down] == [503] * 3
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in down)
        assert (await http.post("/v1/score", json=scoring)).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        redis_server.start()
        assert (await until_ok(send_samples)).status_code == 202
        assert (await http.post("/v1/contrastive", json=scoring)).status_code == 200
        assert (await lookup(http, prompt="p"))[0]["completions"] == ["a"]
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        kept: Any = client.xrange("assay:samples")
    assert kept[0][0].decode() == accepted[0]


async def test_a_key_that_holds_something_else_is_not_overwritten(
    redis_server: RedisServer,
) -> None:
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.set("assay:samples", "somebody else's")
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        reply = await http.post("/v1/samples", json={"items": [SAMPLE]})
    assert reply.status_code == 503
    assert "another program" in reply.json()["detail"]


async def test_a_pin_where_nothing_is_scored_is_refused(redis_server: RedisServer) -> None:
    body = {"items": [SAMPLE]}
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        refused = [
            await http.post("/m/toy@1/v1/samples", json=body),
            await http.post("/v1/samples", json=body, params={"model": "toy@1"}),
            await http.post("/v1/samples", json=body, headers={"X-Assay-Model": "toy@1"}),
            await http.put("/m/toy@1/v1/baselines", json={"items": [baseline("p", ["a"])]}),
            await http.post("/m/toy@1/v1/baselines/lookup", json={"prompt": "p"}),
        ]
        named = await http.post("/m/toy/v1/samples", json=body)
        other = await http.post("/m/other/v1/samples", json=body)
    assert [reply.status_code for reply in refused] == [422] * 5
    assert "toy@1" in refused[0].json()["detail"]
    assert (named.status_code, other.status_code) == (202, 404)
