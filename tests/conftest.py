"""Fixtures for all tests."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from redis_server import RedisServer

_WITH_SERVERS = ("integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What computes comes first, beside the type check; servers have the machine for themselves.

    Tests that share one `assay up` come last: it does not run beside others.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    turn = _WITH_SERVERS.index(folder) + 1 if folder in _WITH_SERVERS else 0
    return "up" in getattr(item, "fixturenames", ()), turn


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
        server.kill()


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """What a full disk does, for files above a size, of which pytest's own output is one."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
