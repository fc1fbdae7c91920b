"""Several replicas in one process, around a real Redis and a real store: for tests of swaps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from assay.models.scorer import Scorer
from assay.registry.store import Store
from redis_server import RedisServer
from reward_server.app import create_app
from reward_server.composite.plan import Parts
from reward_server.reload.source import VersionSource
from toy import ToyScorer, toy_scores, toy_settings

NAME = "toy"
LATE_S = 60.0
_numbers = count()


def publish(store: Path, version: int, **fields: Any) -> None:
    """A version's folder with nothing but a manifest: toys have no weights."""
    folder = store / NAME / str(version)
    folder.mkdir(parents=True)
    manifest = {
        "name": NAME,
        "version": version,
        "created": 0,
        "kind": "whole",
        "members": ["."],
        "input_format": "concat",
        "max_tokens": 64,
        **fields,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def offline(version: int, prompt: str, completion: str) -> float:
    """What a version gives for a text, by hand: the mean over members."""
    row = toy_scores((prompt + completion).encode(), 3)
    return sum(row) / len(row) + 1000.0 * (version - 1)


class Relay:
    """Stands between one replica and Redis, and can be cut."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.path = folder / "relay.sock"
        self.url = f"unix://{self.path}"
        self._redis = redis
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def cut(self) -> None:
        """From now on nothing answers."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_unix_connection(self._redis.socket)
        self._writers |= {writer, onward[1]}
        with contextlib.suppress(OSError):
            await asyncio.gather(_pipe(reader, onward[1]), _pipe(onward[0], writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass
class Replica:
    """One app with a client that talks to it, and what it loaded."""

    app: FastAPI
    http: httpx.AsyncClient
    loaded: list[int]

    async def score(self, prompt: str, completion: str, pin: str | None = None) -> httpx.Response:
        headers = {"X-Assay-Model": pin} if pin else {}
        body = {"groups": [{"prompt": prompt, "completions": [completion]}]}
        return await self.http.post("/v1/score", json=body, headers=headers)

    async def version(self, pin: str | None = None) -> int:
        """The version that answers a prompt that it has not seen, its score checked."""
        prompt = f"which {next(_numbers)}"
        return check(await self.score(prompt, "one", pin), prompt, "one")

    async def cards(self) -> dict[int, dict[str, Any]]:
        """Resident versions: aliases and replicas."""
        data = (await self.http.get("/v1/models")).json()["data"]
        return {int(card["id"].partition("@")[2]): card["assay"] for card in data}

    async def metric(self, name: str) -> float:
        text = (await self.http.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].split()[-1])


def check(reply: httpx.Response, prompt: str, completion: str) -> int:
    """The version that answered, which is the one that scored."""
    assert reply.status_code == 200, reply.text
    model = reply.json()["model"]
    assert reply.headers["x-assay-model"] == model
    version = int(model.partition("@")[2])
    (score,) = reply.json()["results"][0]["scores"]
    assert abs(score - offline(version, prompt, completion)) < 1e-6
    return version


@dataclass
class Fleet:
    """Replicas of the toy, which serves version 1 at first."""

    redis: RedisServer
    store: Path
    stack: AsyncExitStack
    settings: dict[str, Any] = field(default_factory=dict)
    before_load: Callable[[int], None] = lambda _: None
    made: Callable[[int], Scorer] = lambda version: ToyScorer(version=version)
    parts: Parts | None = None

    async def add(self, url: str | None = None, **settings: Any) -> Replica:
        """Start a replica, and return once it is ready."""
        loaded: list[int] = []
        store = Store(str(self.store))

        def load(version: int) -> Scorer:
            self.before_load(version)
            loaded.append(version)
            return self.made(version)

        aliases = store.aliases(NAME)
        first = aliases.serving or 1
        options = {**self.settings, **settings, "redis_url": url or self.redis.url}
        app = create_app(
            toy_settings(**options),
            self.made(first),
            VersionSource(aliases, store, load),
            self.parts,
        )
        await self.stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://toy", timeout=60)
        http = await self.stack.enter_async_context(client)
        return Replica(app, http, loaded)


@asynccontextmanager
async def fleet(redis: RedisServer, folder: Path, **settings: Any) -> AsyncIterator[Fleet]:
    """An empty fleet over a store with versions 1 to 4; quiet is short, so that tests are."""
    store = folder / "store"
    for version in range(1, 5):
        publish(store, version)
    options = {"quiet_ms": 50, "quiet_deadline_s": 1.0, "cache_bytes": 0, **settings}
    async with AsyncExitStack() as stack:
        yield Fleet(redis, store, stack, options)


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = LATE_S) -> Any:
    """Poll an awaitable condition until it holds."""
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        if value := await condition():
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")
