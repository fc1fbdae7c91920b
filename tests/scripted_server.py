"""An HTTP server on loopback that answers as a test tells it to, and remembers the requests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at_s: float


@dataclass(frozen=True)
class Answer:
    """What to send back.

    Attributes:
        announced: a Content-Length larger than the body makes an answer that breaks off.
        trickle_s: time between one byte and the next.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    trickle_s: float = 0.0


def reply(body: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode())


def problem(status: int, slug: str, detail: str = "wrong", **fields: Any) -> Answer:
    body = {"type": f"urn:assay:problem:{slug}", "title": "t", "status": status, "detail": detail}
    return reply({**body, **fields}, status)


class ScriptedServer:
    """Answers with `script`, a function of the request; `hold` is set when the test is over."""

    def __init__(self, script: Callable[[Received], Answer]) -> None:
        self.requests: list[Received] = []
        self.hold = threading.Event()
        self.busy = self.busiest = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Received(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(raw) if raw else None,
                    time.monotonic(),
                )
                with outer._lock:
                    outer.requests.append(request)
                    outer.busy += 1
                    outer.busiest = max(outer.busiest, outer.busy)
                try:
                    answer = script(request)
                finally:
                    with outer._lock:
                        outer.busy -= 1
                self._send(answer)

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.announced is None else answer.announced
                self.send_header("Content-Length", str(length))
                self.end_headers()
                outer._write(self.wfile, answer)
                self.close_connection = answer.announced is not None

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True  # the client gave up, as some tests mean it to

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def _write(self, out: BufferedIOBase, answer: Answer) -> None:
        if not answer.trickle_s:
            out.write(answer.body)
            return
        for at in range(len(answer.body)):
            if self.hold.wait(answer.trickle_s):
                return
            out.write(answer.body[at : at + 1])

    def close(self) -> None:
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def length_scores(request: Received, model: str = "toy@7") -> Answer:
    """Answers a scoring request; the score of a text is its length, so that order shows."""
    body = request.body
    if request.path == "/v1/strength":
        results: list[Any] = [_strength(pair) for pair in body["pairs"]]
    else:
        results = [_ANSWERS[request.path](group) for group in body["groups"]]
    return reply({"model": model, "format": "chat", "results": results})


def _scores(group: Any) -> list[float]:
    return [float(len(text)) for text in group["completions"]]


def _score(group: Any) -> dict[str, Any]:
    n = len(group["completions"])
    return {
        "scores": _scores(group), "std": [0.5] * n, "tokens": [1] * n, "truncated": [False] * n
    }  # fmt: skip


def _contrastive(group: Any) -> dict[str, Any]:
    base = {"value": 1.0, "std": 0.0, "count": 1, "source": "inline"}
    return {
        "rewards": [score - 1.0 for score in _scores(group)],
        "scores": _scores(group), "std": None, "baseline": base,
    }  # fmt: skip


def _best(group: Any) -> dict[str, Any]:
    scores = _scores(group)
    return {"index": scores.index(max(scores)), "scores": scores}


def _strength(pair: Any) -> dict[str, Any]:
    return {
        "mean": float(len(pair["chosen"]) - len(pair["rejected"])), "std": None, "votes": 1,
        "members": 1, "probability": 0.5, "quantile": None, "action": None,
    }  # fmt: skip


_ANSWERS = {
    "/v1/score": _score,
    "/v1/contrastive": _contrastive,
    "/v1/best-of-n": _best,
}
