"""The ports that Ray Serve needs beside the public one, never those of another instance."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from assay.errors import StartupError

_FIRST, _LAST = 20_000, 32_000  # below Linux's range of ephemeral ports
_BLOCK_SIZE = 100


@dataclass(frozen=True)
class PortBlock:
    """A hundred ports: one that is the lock, three for HAProxy and Serve, the rest for replicas."""

    first: int

    @property
    def stats(self) -> int:
        return self.first + 1

    @property
    def metrics(self) -> int:
        return self.first + 2

    @property
    def fallback(self) -> int:
        return self.first + 3

    @property
    def replicas(self) -> tuple[int, int]:
        return self.first + 4, self.first + _BLOCK_SIZE - 1


@contextlib.contextmanager
def claim_ports() -> Iterator[PortBlock]:
    """Hold a block of free ports; its first port stays bound, which keeps other instances away.

    A range of its own matters for replicas too: HAProxy would go on sending requests to the port of
    a dead replica, and another instance's replica must not be the one that answers there.

    Raises:
        StartupError: every block is in use.
    """
    for first in range(_FIRST, _LAST, _BLOCK_SIZE):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_bound(first))
                for port in range(first + 1, first + _BLOCK_SIZE):
                    with _bound(port):
                        pass
            except OSError:
                continue
            yield PortBlock(first)
            return
    raise StartupError(f"no {_BLOCK_SIZE} free ports in a row between {_FIRST} and {_LAST}")


def check_port_free(host: str, port: int) -> None:
    """Raise a StartupError when the public address cannot be bound."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        # The error's own text names the address again; a host that does not resolve has no errno.
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise StartupError(
            f"cannot listen on {host}:{port}: {reason}; choose another --port or --host"
        ) from None


def _bound(port: int) -> socket.socket:
    """A socket on that port of all interfaces, without SO_REUSEADDR: only a quiet port will do."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind(("", port))
    except OSError:
        listener.close()
        raise
    return listener
