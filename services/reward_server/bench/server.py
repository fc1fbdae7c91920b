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

import httpx
import typer

_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 60.0


@contextlib.contextmanager
def running_server(model: str) -> Iterator[str]:
    """Start `python -m reward_server` on a free port, without a score cache; yields its URL."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        flags = ["--port", str(port), "--model", model, "--home", home, "--cache-bytes", "0"]
        process = subprocess.Popen([sys.executable, "-m", "reward_server", *flags])  # noqa: S603
        try:
            _wait_ready(process, url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_TIMEOUT_S)


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
