"""What Redis may do to a client: be down, hang, refuse; and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from assay.errors import AssayError, DependencyError, StartupError
from assay.schemas.storage import BaselineSet, Sample
from assay.streams.baselines import BaselineStore
from assay.streams.connection import connect, redis_errors
from assay.streams.samples import SampleStream
from redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TEXT = "READONLY OOM text"  # looks like an answer of Redis, and must not be taken for one
BASELINES = BaselineSet(prompt="p", completions=[TEXT], policy="sft")
SAMPLE = Sample(prompt="p", completions=[TEXT], policy="ppo")


def stream(client: Redis) -> SampleStream:
    return SampleStream(client, max_entries=10, idempotency_ttl_s=60)


async def tell(client: Any, *words: str) -> None:
    await client.execute_command(*words)


async def test_a_redis_that_is_down_fails_and_the_same_client_recovers(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as client:
        baselines = BaselineStore(client)
        await baselines.put([BASELINES])
        redis_server.kill()
        with pytest.raises(DependencyError) as caught:
            await baselines.lookup("p", None)
        assert caught.value.retry_after_s == 1.0
        redis_server.start()
        assert len(await baselines.lookup("p", None)) == 1


async def test_a_redis_that_hangs_fails_and_the_same_client_recovers(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as client:
        await stream(client).append([SAMPLE], None)
        redis_server.pause()
        try:
            with pytest.raises(DependencyError, match="does not answer"):
                await stream(client).append([SAMPLE], None)
        finally:
            redis_server.resume()
        await stream(client).append([SAMPLE], None)


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "out of memory"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "lacks the replicas"),
        (("REPLICAOF", "127.0.0.1", "1"), "read-only replica"),
        (("SET", "assay:baselines:{digest}", "x"), "another program's data"),
    ],
)
async def test_a_write_that_redis_refuses_says_why_and_holds_no_text(
    redis_server: RedisServer, command: tuple[str, ...], detail: str
) -> None:
    async with connect(redis_server.url) as client:
        await BaselineStore(client).put([BASELINES])
        key: Any = (await client.keys("assay:baselines:*"))[0]
        await tell(client, *(key if "{digest}" in word else word for word in command))
        with pytest.raises(DependencyError, match=detail) as caught:
            await BaselineStore(client).put([BASELINES])
        assert caught.value.__cause__ is None
        assert caught.value.retry_after_s is not None


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "out of memory"),
        (("REPLICAOF", "127.0.0.1", "1"), "read-only replica"),
        (("SET", "assay:samples", "x"), "another program's data"),
    ],
)
async def test_an_append_that_redis_refuses_says_why(
    redis_server: RedisServer, command: tuple[str, ...], detail: str
) -> None:
    async with connect(redis_server.url) as client:
        await tell(client, *command)
        with pytest.raises(DependencyError, match=detail):
            await stream(client).append([SAMPLE], None)


async def test_reading_from_a_replica_without_its_master(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        await client.config_set("replica-serve-stale-data", "no")
        await tell(client, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(DependencyError, match="lost its master"):
            await BaselineStore(client).lookup("p", None)


@pytest.mark.parametrize("user", ["", "nobody:hunter2@", ":hunter2@"])
async def test_wrong_credentials_are_named_and_not_shown(
    redis_server: RedisServer, user: str
) -> None:
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as operator:
        operator.config_set("requirepass", "right")
    async with connect(f"unix://{user}{redis_server.socket}") as client:
        assert "hunter2" not in repr(client)
        with pytest.raises(DependencyError, match="credentials") as caught:
            await BaselineStore(client).lookup("p", None)
    assert "hunter2" not in str(caught.value) + str(caught.value.__cause__)


async def test_a_command_that_redis_does_not_know_is_a_defect(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        with pytest.raises(AssayError, match="unknown command") as caught:
            async with redis_errors():
                await tell(client, "NONSENSE")
    assert type(caught.value) is AssayError


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "unix://",
        "unix://redis.sock",
        "redis://:hunt#er2@localhost:6379",
        "redis://:hunter2@localhost?db=one",
        "redis://:hunter2@localhost?colour=red",
        "redis://:hunter2@localhost:999999",
    ],
)
async def test_a_bad_url_stops_the_start_and_is_not_shown(url: str) -> None:
    with pytest.raises(StartupError, match="Redis URL") as caught:
        connect(url)
    assert "hunt" not in str(caught.value)
