"""A scripted server that integrations find through the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from scripted_server import Answer, Received, ScriptedServer, length_scores, reply

Script = Callable[[Received], Answer]
Serve = Callable[..., ScriptedServer]


def scores_and_stores(request: Received) -> Answer:
    """Good answers to all that integrations ask; a score is the length of the text."""
    if request.path == "/v1/samples":
        count = len(request.body["items"])
        return reply({"accepted": count, "ids": ["1-0"] * count}, 202)
    return length_scores(request)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server, and names it in `ASSAY_URL`."""
    with ExitStack() as stack:

        def start(script: Script = scores_and_stores) -> ScriptedServer:
            server = ScriptedServer(script)
            stack.callback(server.close)
            monkeypatch.setenv("ASSAY_URL", server.url)
            return server

        yield start
