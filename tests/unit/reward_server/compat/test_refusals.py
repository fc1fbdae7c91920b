"""Each route of vLLM, SGLang and TEI, when nothing is right: the answer is in that system's shape.

Never 429, never a number in place of a missing score.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Literal, Protocol

import httpx
import pytest
from starlette.testclient import TestClient

from assay.errors import InvalidInputError
from assay.schemas import boundary
from reward_server.app import create_app
from reward_server.compat.core import Answer, Input
from reward_server.compat.numbers import rewards
from reward_server.compat.values import Output
from serving import until
from toy import ToyScorer, http_server, serving, toy_settings

Ask = Callable[..., Any]
Shape = Literal["vllm", "sglang", "v1", "tei"]
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROUTES: list[tuple[str, dict[str, Any], Shape]] = [
    ("/classify", {"input": "a"}, "vllm"),
    ("/classify", {"messages": CHAT}, "vllm"),
    ("/pooling", {"input": "a"}, "vllm"),
    ("/score", {"queries": "q", "documents": "a"}, "vllm"),
    ("/v1/score", {"queries": "q", "documents": "a"}, "vllm"),
    ("/rerank", {"query": "q", "documents": ["a"]}, "vllm"),
    ("/v1/rerank", {"query": "q", "documents": ["a"]}, "vllm"),
    ("/v2/rerank", {"query": "q", "documents": ["a"]}, "vllm"),
    ("/classify", {"text": "a"}, "sglang"),
    ("/v1/classify", {"input": "a"}, "v1"),
    ("/v1/embeddings", {"input": "a"}, "v1"),
    ("/v1/score", {"query": "q", "items": ["a"]}, "v1"),
    ("/predict", {"inputs": "a"}, "tei"),
    ("/rerank", {"query": "q", "texts": ["a"]}, "tei"),
]
OWN_PATHS = [route for route in ROUTES if route[0] != "/v1/score"]
each_route = pytest.mark.parametrize(("path", "body", "shape"), ROUTES)
each_own_path = pytest.mark.parametrize(("path", "body", "shape"), OWN_PATHS)


class Reply(Protocol):
    """What both clients of these tests give."""

    @property
    def status_code(self) -> int: ...

    def json(self) -> Any: ...


def message(reply: Reply, shape: Shape) -> str:
    """What an error says, once its form is checked."""
    body: dict[str, Any] = reply.json()
    if shape == "tei":
        assert set(body) == {"error", "error_type"}
        return str(body["error"])
    error: dict[str, Any] = body if shape == "v1" else body["error"]
    assert shape != "sglang" or set(error) == {"message"}
    assert shape == "sglang" or error["code"] == reply.status_code
    return str(error["message"])


@each_route
def test_another_model_is_404(
    http: TestClient, path: str, body: dict[str, Any], shape: Shape
) -> None:
    pinned = http.post(f"/m/other{path}", json=body)
    assert pinned.status_code == 404
    assert "other" in message(pinned, shape)
    if shape != "tei":  # its bodies name no model
        named = http.post(path, json={**body, "model": "/models/other"})
        assert (named.status_code, message(named, shape)[:24]) == (404, "this server serves toy, ")
        assert http.post(path, json={**body, "model": "toy@1"}).status_code == 200


@each_route
def test_a_version_that_is_not_resident_is_503_so_that_trainers_try_again(
    http: TestClient, path: str, body: dict[str, Any], shape: Shape
) -> None:
    reply = http.post(f"/m/toy@7{path}", json=body)
    assert reply.status_code == 503
    assert "toy@7 is not resident" in message(reply, shape)


@each_route
def test_a_typo_in_the_query_is_named(
    http: TestClient, path: str, body: dict[str, Any], shape: Shape
) -> None:
    reply = http.post(f"{path}?rewards=lcb", json=body)
    assert reply.status_code == (422 if shape == "tei" else 400)
    assert "rewards" in message(reply, shape)


@pytest.mark.anyio
async def test_too_many_texts_are_refused_before_any_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = _reading_threads(monkeypatch)
    async with serving(toy_settings(max_request_texts=2)) as http:
        reply = await http.post("/classify", json={"input": ["a", "b", "c"]})
    assert reply.status_code == 413
    assert "3 texts, and a request takes 2" in message(reply, "vllm")
    assert not threads


@pytest.mark.anyio
async def test_long_texts_are_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = _reading_threads(monkeypatch)
    async with serving(toy_settings()) as http:
        for text in ("a", "a" * 150_000):
            assert (await http.post("/classify", json={"input": text})).status_code == 200
    here, beside = threads
    assert here == threading.get_ident() != beside


def _reading_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads on which texts are read from now on."""
    threads: list[int] = []

    def read(text: str, rules: boundary.Rules) -> boundary.Reading:
        threads.append(threading.get_ident())
        return plain(text, rules)

    plain = boundary.read
    monkeypatch.setattr(boundary, "read", read)
    return threads


@each_own_path
def test_a_body_that_is_not_json_is_refused_in_shape(
    http: TestClient, path: str, body: dict[str, Any], shape: Shape
) -> None:
    reply = http.post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    # Nothing says whose it is on a shared path, which goes to vLLM.
    message(reply, "vllm" if path in ("/classify", "/rerank") else shape)


@each_route
def test_a_score_that_is_not_finite_is_an_error(
    http: TestClient, path: str, body: dict[str, Any], shape: Shape
) -> None:
    nan = json.loads(json.dumps(body).replace('"a"', '"\\u0000"'))
    reply = http.post(path, json=nan)
    assert reply.status_code == (424 if shape == "tei" else 500)
    assert "finite" in message(reply, shape)


def test_keys_are_asked_for_and_may_stand_in_the_path() -> None:
    app = create_app(toy_settings(keys="one:score, two:samples"), ToyScorer())
    with TestClient(app) as http:
        for path, body, shape in ROUTES:
            reply = http.post(path, json=body)
            assert reply.status_code == 401, path
            if shape == "tei":
                assert path == "/rerank" or reply.content == b""
            elif path != "/v1/score" and shape == "vllm":
                assert reply.json() == {"error": "Unauthorized"}
            assert http.post(f"/k/one{path}", json=body).status_code == 200, path
            forbidden = http.post(path, json=body, headers={"Authorization": "Bearer two"})
            assert forbidden.status_code == 403


@pytest.mark.anyio
async def test_a_key_over_its_rate_is_503_in_shape_on_every_route() -> None:
    settings = toy_settings(keys="one:score:1", compat_wait_s=0.0)
    async with serving(settings) as http:
        assert (await http.post("/k/one/classify", json={"input": "a"})).status_code == 200
        for path, body, shape in ROUTES:
            reply = await http.post(f"/k/one{path}", json=body)
            assert reply.status_code == 503, path
            assert int(reply.headers["retry-after"]) >= 1
            if path not in ("/classify", "/rerank"):  # whose they are, the body says
                assert "1 requests a minute" in message(reply, shape)
        native = {"groups": [{"prompt": "q", "completions": ["a"]}]}
        for body in (native, {}, {"groups": 3}):
            reply = await http.post("/k/one/v1/score", json=body)
            assert reply.status_code == 429
            assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.anyio
async def test_a_full_queue_is_waited_for_and_then_503() -> None:
    scorer, running, gate = ToyScorer(), threading.Event(), threading.Event()
    settings = toy_settings(max_queue_texts=1, max_request_texts=1, compat_wait_s=0.2)

    def hold(_: object) -> None:
        running.set()
        gate.wait(20)

    async with serving(settings, scorer) as http:
        scorer.before = hold

        async def classify(text: str) -> httpx.Response:
            return await http.post("/classify", json={"input": text})

        held = [asyncio.create_task(classify("x"))]
        await asyncio.to_thread(running.wait, 10)
        held.append(asyncio.create_task(classify("y")))
        async with asyncio.timeout(10):
            while "reward_server_queue_texts 1.0" not in (await http.get("/metrics")).text:  # noqa: ASYNC110 - a server has no event for it
                await asyncio.sleep(0.01)
        refused = [await http.post(path, json=body) for path, body, _ in OWN_PATHS[::3]]
        patient = asyncio.create_task(classify("z"))
        gate.set()
        served = [reply.status_code for reply in await asyncio.gather(*held, patient)]
    assert served == [200, 200, 200]
    for reply, (path, _, shape) in zip(refused, OWN_PATHS[::3], strict=True):
        assert reply.status_code == 503, path
        assert int(reply.headers["retry-after"]) >= 1
        message(reply, shape)


@pytest.mark.anyio
async def test_a_draining_server_answers_503_in_shape() -> None:
    app = create_app(toy_settings(), ToyScorer())
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://toy") as http,
    ):
        await app.state.runtime.drain(1.0)
        for path, body, shape in OWN_PATHS:
            reply = await http.post(path, json=body)
            assert reply.status_code == 503, path
            message(reply, "vllm" if path in ("/classify", "/rerank") else shape)
        health = [(await http.get(path)).status_code for path in ("/health", "/ping", "/info")]
    assert health == [503, 503, 200]


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    scorer, gate = ToyScorer(), threading.Event()
    app = create_app(toy_settings(), scorer)
    with http_server(app) as url:
        scorer.before = lambda _: None if gate.wait(20) else None
        host, _, port = url.removeprefix("http://").partition(":")
        body = b'{"input": "a"}'
        head = f"POST /classify HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            until(lambda: app.state.runtime.in_flight == 1, 10, "the request")
        gate.set()
        until(lambda: app.state.runtime.in_flight == 0, 10, "the end of the broken request")
        assert httpx.post(f"{url}/classify", json={"input": "a"}).status_code == 200


def test_a_text_without_a_score_is_an_error_and_no_number() -> None:
    nothing = Output(3, truncated=False, value=None)
    answer = Answer("toy@1", "score", [nothing])
    with pytest.raises(InvalidInputError, match=r"input\[0\]") as raised:
        rewards(answer, [Input("input[0]", text="a")])
    assert [field.path for field in raised.value.fields] == ["input[0]"]
