"""The Redis of `assay up`: nothing accepted is lost, one for each home, and gone at the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from assay.cli.redis_process import EmbeddedRedis, claim_home
from assay.errors import StartupError
from serving import until

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with claim_home(tmp_path) as lock:
        server = EmbeddedRedis(tmp_path, lock)
        try:
            server.wait_ready()
            yield server
        finally:
            server.end()


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_every_write_is_synced_and_only_the_owner_may_connect(server: EmbeddedRedis) -> None:
    with client(server) as connection:
        settings = connection.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert (settings["port"], settings["save"]) == ("0", "")
    socket_file = Path(server.url.removeprefix("unix://"))
    assert socket_file.stat().st_mode & 0o077 == 0


def test_killed_server_comes_back_with_its_data(server: EmbeddedRedis) -> None:
    reports: list[str] = []
    with client(server) as connection:
        connection.xadd("samples", {"prompt": "p"})
    for lives in range(2):
        victim = server.pid
        os.kill(victim, signal.SIGKILL)

        def restarted(victim: int = victim) -> bool:
            server.keep_alive(reports.append)
            return server.pid != victim

        until(restarted, 60, "a new server")
        server.wait_ready()
        with client(server) as connection:
            assert connection.xlen("samples") == 1
        assert len(reports) == lives + 1


def test_a_home_in_use_is_refused_until_its_redis_has_ended(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    with pytest.raises(StartupError, match=f"process {os.getpid()}"), claim_home(tmp_path):
        pass
    server.end()


def test_ended_server_leaves_no_process_and_no_socket(server: EmbeddedRedis) -> None:
    process = psutil.Process(server.pid)
    server.end()
    assert not process.is_running()
    assert not Path(server.url.removeprefix("unix://")).exists()


def test_home_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100)
    with claim_home(home) as lock, pytest.raises(StartupError, match="shorter --home"):
        EmbeddedRedis(home, lock)


def test_damaged_log_is_reported_with_the_place_to_look(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "appendonly.aof").write_text("*1\r\n$9\r\nnot a log at all, and then more of it\r\n")
    with claim_home(tmp_path) as lock:
        server = EmbeddedRedis(tmp_path, lock)
        with pytest.raises(StartupError, match="redis.log"):
            server.wait_ready()
        server.end()
