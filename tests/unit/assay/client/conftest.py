"""Clients of both kinds behind one way to call them, and scripted servers."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from assay import AsyncClient, Client
from scripted_server import Answer, Received, ScriptedServer


class Waiting:
    """An `AsyncClient` on its own event loop, called like a `Client`."""

    def __init__(self, runner: asyncio.Runner, **options: Any) -> None:
        self.runner = runner
        self.client = runner.run(self._make(options))

    async def _make(self, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(**options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            async def awaited() -> Any:
                return await method(*args, **kwargs)

            return self.runner.run(awaited())

        return call

    def __repr__(self) -> str:
        return repr(self.client)

    def close(self) -> None:
        self.aclose()


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes a client of either kind; tests that take it run with both."""
    with ExitStack() as stack:

        def make(**options: Any) -> Any:
            if request.param == "sync":
                client = Client(**options)
                stack.callback(client.close)
                return client
            waiting = Waiting(stack.enter_context(asyncio.Runner()), **options)
            stack.callback(waiting.close)
            return waiting

        yield make


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Received], Answer]], ScriptedServer]]:
    """Starts a server that answers by a function of the request."""
    with ExitStack() as stack:

        def start(script: Callable[[Received], Answer]) -> ScriptedServer:
            server = ScriptedServer(script)
            stack.callback(server.close)
            return server

        yield start
