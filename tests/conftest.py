"""Fixtures for all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_server import RedisServer

_SERVERS = ("integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several workers: tests with servers one after another in one, other files in the rest."""
    root = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(root)
        group = "servers" if place.parts[0] in _SERVERS else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


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
