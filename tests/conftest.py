"""Fixtures for all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_server import RedisServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A running Redis; its folder has a short path, as a socket's may hold 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()
