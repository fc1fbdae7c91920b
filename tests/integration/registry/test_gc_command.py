"""`assay models gc` beside a running Redis: what replicas need stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli.main import app
from assay.registry.aliases import Aliases
from assay.registry.promotions import Registry, propose
from assay.registry.records import Board
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from assay.streams.connection import connect
from redis_server import RedisServer
from saved_versions import save_version

pytestmark = pytest.mark.integration


async def lease_and_promote(url: str) -> None:
    """`rm@2` is under lease, `rm@3` is being promoted."""
    async with connect(url) as redis:
        registry = Registry(redis, "rm")
        await registry.swap(None, Board(revision=1, aliases=Aliases(serving=1)))
        await registry.lease(2, 900)
        await propose(registry, 3, "promote", "person", "quiet", 300)


@pytest.mark.parametrize("named", [True, False])
def test_leased_and_promoted_versions_stay(redis_server: RedisServer, named: bool) -> None:
    home = Path(redis_server.socket).parent  # where `assay up` has its socket too
    for number in range(1, 7):
        save_version(home / "store" / "rm" / str(number), ModelRef("rm", number))
    store = Store(str(home / "store"))
    store.write_aliases("rm", Aliases(serving=1))
    asyncio.run(lease_and_promote(redis_server.url))
    words = ["models", "gc", "rm", "--keep", "1", "--home", str(home)]
    words += ["--redis-url", redis_server.url] if named else []
    done = CliRunner().invoke(app, words)
    assert done.output == "deleted rm@4, rm@5\n"
    assert store.versions("rm") == [1, 2, 3, 6]


def test_the_socket_of_a_killed_redis_does_not_stop_gc(redis_server: RedisServer) -> None:
    home = Path(redis_server.socket).parent
    for number in (1, 2):
        save_version(home / "store" / "rm" / str(number), ModelRef("rm", number))
    redis_server.kill()
    words = ["models", "gc", "rm", "--keep", "1", "--home", str(home)]
    assert CliRunner().invoke(app, words).output == "deleted rm@1\n"
