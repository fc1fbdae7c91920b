"""A scripted Assay server: one version with one member, whose score of a text is its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from scripted_server import Answer, Received, ScriptedServer, length_scores, problem, reply

CALIBRATION = {"pairs": 9, "offsets": [0.0], "quantiles": [-1, 1], "digest": "d"}


def card(temperature: float | None) -> dict[str, Any]:
    info = {
        "alias": ["serving"], "replicas": 1, "format": "chat", "pool": "last", "members": 1,
        "max_tokens": 128, "digest": "d", "lineage": [], "metrics": {}, "recipe": {},
        "calibration": temperature and {**CALIBRATION, "temperature": temperature},
    }  # fmt: skip
    return {"id": "toy@7", "assay": info}


@pytest.fixture
def assay_server() -> Callable[[Received], Answer]:
    """The list of models says T = 1/2; the model's own card has no calibration."""

    def script(request: Received) -> Answer:
        if request.path == "/v1/models":
            return reply({"object": "list", "data": [card(0.5)]})
        if request.path == "/v1/models/toy@7":
            return reply(card(None))
        if request.path.startswith("/v1/models/"):
            return problem(404, "not-found", "no version other@1 here")
        return length_scores(request)

    return script


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Received], Answer]], ScriptedServer]]:
    """Starts a server that answers by a function of the request."""
    with ExitStack() as stack:

        def start(script: Callable[[Received], Answer]) -> ScriptedServer:
            server = ScriptedServer(script)
            stack.callback(server.close)
            return server

        yield start
