"""A reward server of our own for the time of a measurement."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import typer

_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 60.0


class Running(NamedTuple):
    """A server that answers."""

    url: str
    pid: int

    def replicas(self) -> list[int]:
        """Process ids of its replicas (Linux)."""
        return [pid for pid in _descendants(self.pid) if b"ray::ServeReplica" in _title(pid)]


@contextlib.contextmanager
def running_server(model: str, *more: str) -> Iterator[Running]:
    """Start `python -m reward_server` on a free port, without a score cache.

    Args:
        model: what it serves.
        more: further flags.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        flags = ["--port", str(port), "--model", model, "--home", home, "--cache-bytes", "0"]
        argv = [sys.executable, "-m", "reward_server", *flags, *more]
        process = subprocess.Popen(argv)  # noqa: S603
        try:
            _wait_ready(process, url)
            yield Running(url, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_TIMEOUT_S)


def _descendants(pid: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _title(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.2)
    typer.echo("the server did not become ready", err=True)
    raise typer.Exit(1)
