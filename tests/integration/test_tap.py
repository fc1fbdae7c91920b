"""What is scored reaches the stream of samples, and never holds up a reply."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
import redis

from redis_server import RedisServer
from toy import serving, toy_settings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

GROUP = {"prompt": "p", "completions": ["a", "b"]}
STORED = 'reward_server_tapped_samples_total{outcome="stored"}'
DROPPED = 'reward_server_tapped_samples_total{outcome="dropped"}'


def samples(server: RedisServer) -> list[Any]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        entries: Any = client.xrange("assay:samples")
    return [json.loads(fields[b"data"]) for _, fields in entries]


async def counted(http: httpx.AsyncClient, name: str, number: int) -> None:
    ends_s = time.monotonic() + 60
    while True:
        lines = (await http.get("/metrics")).text.splitlines()
        if f"{name} {number:.1f}" in lines:
            return
        assert time.monotonic() < ends_s, [line for line in lines if "tapped" in line]
        await asyncio.sleep(0.02)


async def test_scored_groups_become_samples_of_the_named_policy(redis_server: RedisServer) -> None:
    headers = {"X-Assay-Policy": "ppo", "X-Assay-Step": "7"}
    contrast = {**GROUP, "baselines": ["c"]}
    async with serving(toy_settings(redis_url=redis_server.url, tap=True)) as http:
        for path, group in (
            ("/v1/score", GROUP),
            ("/v1/best-of-n", GROUP),
            ("/v1/contrastive", contrast),
        ):
            reply = await http.post(path, json={"groups": [group, group]}, headers=headers)
            assert reply.status_code == 200
        await http.post("/v1/score", json={"groups": [GROUP]})
        await counted(http, STORED, 7)
    named = {**GROUP, "policy": "ppo", "step": 7}
    assert [{k: v for k, v in each.items() if v is not None} for each in samples(redis_server)] == [
        *[named] * 6,
        {**GROUP, "policy": "tap"},
    ]


async def test_what_fails_is_no_sample_and_without_the_setting_nothing_is(
    redis_server: RedisServer,
) -> None:
    async with serving(toy_settings(redis_url=redis_server.url, tap=True)) as http:
        failed = await http.post(
            "/v1/score", json={"groups": [{"prompt": "p", "completions": ["\0"]}]}
        )
        wrong = await http.post(
            "/v1/score", json={"groups": [GROUP]}, headers={"X-Assay-Step": "seven"}
        )
    async with serving(toy_settings(redis_url=redis_server.url)) as http:
        assert (await http.post("/v1/score", json={"groups": [GROUP]})).status_code == 200
    assert (failed.status_code, wrong.status_code) == (500, 422)
    assert samples(redis_server) == []


async def test_with_redis_full_hung_or_down_replies_come_and_samples_are_dropped_and_counted(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEADLINE_S", "_SOCKET_TIMEOUT_S"):  # who waits for a Redis that hangs, waits on
        monkeypatch.setattr(f"assay.streams.connection.{name}", 1000.0)
    settings = toy_settings(redis_url=redis_server.url, tap=True, max_stream_entries=1)
    async with serving(settings) as http:
        await http.post("/v1/score", json={"groups": [GROUP]})
        await counted(http, STORED, 1)
        await http.post("/v1/score", json={"groups": [GROUP]})
        await counted(http, DROPPED, 1)
        redis_server.pause()
        replies = [await http.post("/v1/score", json={"groups": [GROUP]}) for _ in range(20)]
        redis_server.resume()
        await counted(http, DROPPED, 21)
        redis_server.kill()
        replies.append(await http.post("/v1/score", json={"groups": [GROUP]}))
        await counted(http, DROPPED, 22)
    assert {reply.status_code for reply in replies} == {200}
