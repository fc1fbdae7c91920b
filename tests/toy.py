"""A scorer without a model, and an app around it: for tests of everything but the numbers."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray

from assay.errors import InvalidInputError
from assay.models.inputs import as_completion_text, as_text
from assay.models.scorer import EncodedInput, Scorer, Truncate
from assay.schemas.models import Calibration, ModelCard, ModelInfo
from assay.schemas.text import Completion, Prompt
from reward_server.app import create_app
from reward_server.settings import ServerSettings

LIMIT = 64


class ToyScorer(Scorer):
    """One token a byte; member m scores the sum of the ids, over 100, times m + 1.

    Each version after the first adds 1000, so that a score tells who gave it.
    """

    def __init__(self, members: int = 3, calibrated: bool = True, version: int = 1) -> None:
        self._offset = 1000.0 * (version - 1)
        self.batches: list[list[EncodedInput]] = []
        self.before: Callable[[Sequence[EncodedInput]], None] = lambda _: None
        quantiles = np.linspace(-10.0, 10.0, 101).tolist()
        calibration = Calibration(
            pairs=100, offsets=[0.0] * members, temperature=2.0, quantiles=quantiles, digest="toy"
        )
        info = ModelInfo(
            alias=[],
            replicas=0,
            format="concat",
            pool="last",
            members=members,
            max_tokens=LIMIT,
            digest="toy",
            lineage=[],
            metrics={},
            recipe={},
            calibration=calibration if calibrated and members > 1 else None,
        )
        self.card = ModelCard(id=f"toy@{version}", assay=info)

    def encode(
        self,
        prompt: Prompt,
        completion: Completion,
        *,
        finished: bool = True,
        raw: bool = False,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        text = (as_text(prompt) + as_completion_text(completion)).encode()
        return self.encode_ids(text, truncate=truncate, max_tokens=max_tokens)

    def encode_ids(
        self,
        ids: str | Sequence[int],
        *,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        ids = tuple(ids.encode() if isinstance(ids, str) else ids)
        most = min(LIMIT, max_tokens or LIMIT)
        if not ids:
            raise InvalidInputError("there is no token")
        if max(ids) > 255:
            raise InvalidInputError("token ids of this model are 0 to 255")
        if len(ids) > most and truncate == "error":
            raise InvalidInputError(f"{len(ids)} tokens, and the model takes {most}")
        kept = ids[:most] if truncate == "right" else ids[-most:]
        return EncodedInput(kept, truncated=len(ids) > most)

    def format_used(self, *, raw: bool) -> str:
        return "concat"

    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        self.batches.append(list(batch))
        self.before(batch)
        rows = [toy_scores(text.ids, self.card.assay.members) for text in batch]
        return np.array(rows) + self._offset


def toy_scores(ids: Sequence[int], members: int) -> list[float]:
    """What the toy gives for some ids, by hand: NaN for a text with a byte 0."""
    total = float("nan") if 0 in ids else sum(ids) / 100
    return [total * (member + 1) for member in range(members)]


def toy_settings(**changes: object) -> ServerSettings:
    """Settings that no environment changes."""
    return ServerSettings(_env_file=None, model="toy", **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    settings: ServerSettings | None = None, scorer: Scorer | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """An app in this process, started, and a client that talks to it without a socket."""
    app = create_app(settings or toy_settings(), scorer or ToyScorer())
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://toy") as http,
    ):
        yield http


@contextmanager
def http_server(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The app on a real socket of this machine, of any port for 0; yields its URL."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            while httpx.get(f"{url}/readyz", timeout=60).status_code != 200:
                pass
            yield url
        finally:
            server.should_exit = True
            thread.join()
