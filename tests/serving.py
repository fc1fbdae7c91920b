"""Real servers for tests: the server's own command, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

STARTUP_S = 240.0  # ten seconds on an idle machine
LATE_S = 120.0  # for anything else: a machine may be busy


def free_port() -> int:
    """A port below those that the system, or Assay for Ray, gives away until it is bound."""
    for port in random.sample(range(11_000, 20_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise AssertionError("no free port")


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Poll until the condition holds, and return what it gave."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def score_body(completions: list[str], prompt: str = "hello") -> dict[str, Any]:
    return {"groups": [{"prompt": prompt, "completions": completions}]}


@dataclass
class Server:
    """One started command: `assay up`, or the server itself."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self.log.read_text()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output()
            return "ready: " in self.output()

        until(ready, STARTUP_S, f"a ready server; it said: {self.output()}")

    def descendants(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return children

    def replicas(self) -> set[int]:
        """Process ids of the replicas, whose title Ray sets."""
        titles = {child.pid: _title(child) for child in self.descendants()}
        return {pid for pid, title in titles.items() if title.startswith("ray::ServeReplica")}

    def interrupt(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def interrupt_group(self) -> None:
        """Ctrl-C as a terminal sends it: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def check_gone(self, descendants: list[psutil.Process]) -> None:
        """Nothing that it started lives, and its port can be bound."""
        _, alive = psutil.wait_procs(descendants, timeout=60)
        assert not alive, [_title(process) for process in alive]
        socket.create_server(("127.0.0.1", self.port)).close()


@contextlib.contextmanager
def started(argv: list[str], port: int, folder: Path) -> Iterator[Server]:
    """Run a command in a session of its own; at the end nothing of it is left."""
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv, "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    descendants: list[psutil.Process] = []
    try:
        yield server
    finally:
        if process.poll() is None:
            descendants = server.descendants()
            server.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()
        for left in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


@dataclass(frozen=True)
class Sent:
    """One request: when it was sent, and its status, or 0 for a broken or refused connection."""

    sent_s: float
    status: int
    headers: httpx.Headers | None = None
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def post(client: httpx.Client, completions: list[str]) -> Sent:
    sent_s = time.monotonic()
    try:
        response = client.post("/v1/score", json=score_body(completions))
    except httpx.TransportError:
        return Sent(sent_s, 0)
    return Sent(sent_s, response.status_code, response.headers, response.content)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""
