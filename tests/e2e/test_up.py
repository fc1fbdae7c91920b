"""`assay up` as a user meets it: one line when ready, Redis kept alive, nothing left at the end.

Its orderly end by Ctrl-C is that of the test of `assay up` with a trainer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from serving import LATE_S, Server, free_port, score_body, started, until
from tiny_models import save_family

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path: a socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        yield Path(folder)


def redis_process(server: Server) -> psutil.Process:
    (process,) = (child for child in server.descendants() if child.name() == "redis-server")
    return process


def test_up_serves_keeps_redis_alive_and_killed_leaves_nothing(home: Path, tmp_path: Path) -> None:
    model = save_family("bert", tmp_path / "tiny")
    argv = ["assay", "up", "--home", str(home), "--model", str(model)]
    with started(argv, free_port(), tmp_path) as server:
        server.wait_ready()
        (line,) = (line for line in server.output().splitlines() if line.startswith("ready: "))
        assert all(part in line for part in (server.url, "tiny@1", str(home / "redis.sock")))
        reply = httpx.post(f"{server.url}/v1/score", json=score_body(["good"]), timeout=LATE_S)
        assert reply.json()["model"] == "tiny@1"

        with redis.Redis(unix_socket_path=str(home / "redis.sock")) as connection:
            connection.set("kept", "yes")
        first = redis_process(server)
        first.kill()
        until(lambda: _kept(home), LATE_S, "the data in the new Redis")
        assert redis_process(server).pid != first.pid
        reply = httpx.post(f"{server.url}/v1/score", json=score_body(["bad"]), timeout=LATE_S)
        assert reply.status_code == 200

        assert "already uses" in _refused("up", "--home", str(home), cwd=tmp_path)

        descendants = server.descendants()
        server.process.kill()
        server.process.wait()
        server.check_gone(descendants)


def test_up_ends_with_the_reason_when_the_server_cannot_start(home: Path, tmp_path: Path) -> None:
    port = str(free_port())
    line = _refused("up", "--home", str(home), "--port", port, "--model", "./nowhere", cwd=tmp_path)
    assert "nowhere" in line
    assert not (home / "redis.sock").exists()


def test_killed_server_ends_the_command_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    model = save_family("bert", tmp_path / "tiny")
    argv = ["assay", "up", "--home", str(home), "--model", str(model)]
    with started(argv, free_port(), tmp_path) as server:
        server.wait_ready()
        descendants = server.descendants()
        (victim,) = (child for child in descendants if "reward_server" in child.cmdline())
        victim.kill()
        assert server.process.wait(LATE_S) == 1
        assert "signal 9" in server.output()
        server.check_gone(descendants)


def _kept(home: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(home / "redis.sock")) as connection:
            return bool(connection.get("kept") == b"yes")
    except redis.ConnectionError:
        return False


def _refused(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "assay", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LATE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr
