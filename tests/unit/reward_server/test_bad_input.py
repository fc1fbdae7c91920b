"""Whatever comes in, the answer is a problem document with the right status, and never a 500."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any

import httpx
import pytest

from reward_server.app import create_app
from serving import until
from toy import LIMIT, ToyScorer, http_server, serving, toy_settings

pytestmark = pytest.mark.anyio

GROUP = {"prompt": "p", "completions": ["a"]}
JSON = {"Content-Type": "application/json"}


def problem(reply: httpx.Response) -> dict[str, Any]:
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert body["status"] == reply.status_code
    assert body["instance"] == reply.headers["x-request-id"]
    return body


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "groups"),
        ({"groups": []}, "groups"),
        ({"groups": [{"prompt": "p", "completions": []}]}, "groups[0].completions"),
        ({"groups": [{"prompt": "p", "completions": ["a", ""]}]}, "groups[0].completions[1]"),
        ({"groups": [{"prompt": "p", "completions": "a"}]}, "groups[0].completions"),
        ({"groups": [{"prompt": "p", "completions": [3]}]}, "groups[0].completions[0]"),
        ({"groups": [{"prompt": [], "completions": ["a"]}]}, "groups[0].prompt"),
        ({"groups": [{"prompt": None, "completions": ["a"]}]}, "groups[0].prompt"),
        ({"groups": [{**GROUP, "finished": [True, False]}]}, "groups[0]"),
        ({"groups": [{**GROUP, "labels": []}]}, "groups[0]"),
        (
            {"groups": [{"prompt": "p", "completions": [[{"role": "user", "content": "x"}]]}]},
            "groups[0].completions[0]",
        ),
        ({"groups": [GROUP], "agregate": "min"}, "agregate"),
        ({"groups": [GROUP], "aggregate": "max"}, "aggregate"),
        ({"groups": [GROUP], "lcb_k": -1}, "lcb_k"),
        ({"groups": [GROUP], "truncate": "right"}, "truncate"),
        ([], "body"),
        ("text", "body"),
    ],
)
async def test_a_wrong_field_is_named(body: object, path: str) -> None:
    async with serving() as http:
        reply = await http.post("/v1/score", json=body)
    assert reply.status_code == 422
    assert path in [error["path"] for error in problem(reply)["errors"]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"groups": [{"prompt": "p", "completions": ["a"]}], "lcb_k": NaN}',
        b'{"groups": [{"prompt": "p", "completions": ["a"]}], "lcb_k": Infinity}',
        b'{"groups": [{"prompt": "p\xff", "completions": ["a"]}]}',
        b'{"groups": [{"prompt": "\\ud800", "completions": ["a"]}]}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    async with serving() as http:
        reply = await http.post("/v1/score", content=body, headers=JSON)
    assert reply.status_code in (400, 422) if not body else reply.status_code == 400
    problem(reply)


async def test_a_number_too_large_for_a_float_is_refused() -> None:
    async with serving() as http:
        reply = await http.post(
            "/v1/score",
            content=json.dumps({"groups": [GROUP]})[:-1] + ', "lcb_k": 1e999}',
            headers=JSON,
        )
    assert reply.status_code == 422
    problem(reply)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_not_read_to_its_end(declared: bool) -> None:
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1024
            yield b" " * 1024

    headers = {**JSON, "Content-Length": "1024000"} if declared else JSON
    async with serving(toy_settings(max_body_bytes=8192)) as http:
        reply = await http.post("/v1/score", content=chunks(), headers=headers)
    assert reply.status_code == 413
    problem(reply)


async def test_ten_thousand_and_one_completions_are_too_many() -> None:
    async with serving() as http:
        body = {"groups": [{"prompt": "p", "completions": [str(i) for i in range(10_001)]}]}
        too_many = await http.post("/v1/score", json=body)
        body["groups"][0]["completions"].pop()  # type: ignore[attr-defined]
        enough = await http.post("/v1/score", json=body)
    assert too_many.status_code == 413
    problem(too_many)
    assert enough.status_code == 200


async def test_a_megabyte_prompt_loses_its_oldest_tokens_or_is_refused() -> None:
    group = {"prompt": "x" * 2**20, "completions": ["the end"]}
    scorer = ToyScorer()
    async with serving(scorer=scorer) as http:
        cut = await http.post("/v1/score", json={"groups": [group]})
        refused = await http.post("/v1/score", json={"groups": [group], "truncate": "error"})
    assert cut.json()["results"][0]["truncated"] == [True]
    assert cut.json()["results"][0]["tokens"] == [LIMIT]
    assert bytes(scorer.batches[-1][0].ids).endswith(b"the end")
    assert refused.status_code == 422
    assert problem(refused)["errors"][0]["path"] == "groups[0].completions[0]"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/score", 405), ("POST", "/m/toy@1/nowhere", 404)],
)
async def test_a_wrong_route_is_a_problem_too(method: str, path: str, status: int) -> None:
    async with serving() as http:
        reply = await http.request(method, path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/baselines", {"items": [{**GROUP, "policy": "sft"}]}),
        ("POST", "/v1/baselines/lookup", {"prompt": "p"}),
        ("POST", "/v1/baselines/delete", {"prompt": "p"}),
        ("POST", "/v1/samples", {"items": [{**GROUP, "policy": "sft"}]}),
        ("POST", "/v1/contrastive", {"groups": [GROUP]}),
    ],
)
async def test_what_needs_redis_is_unavailable_without_it(
    method: str, path: str, body: object
) -> None:
    async with serving() as http:
        reply = await http.request(method, path, json=body)
        scored = await http.post("/v1/score", json={"groups": [GROUP]})
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert problem(reply)["type"] == "urn:assay:problem:dependency-down"
    assert scored.status_code == 200


async def test_keys_and_scopes_hold_on_every_route() -> None:
    settings = toy_settings(keys="reader:score, writer:samples")
    reader, writer = ({"Authorization": f"Bearer {name}"} for name in ("reader", "writer"))
    async with serving(settings) as http:
        for path in ("/v1/models", "/v1/models/toy", "/metrics", "/docs", "/openapi.json", "/no"):
            none = await http.get(path)
            assert none.status_code == 401, path
            assert none.headers["www-authenticate"] == "Bearer"
            problem(none)
        wrong = await http.post("/v1/score", json={}, headers={"Authorization": "Bearer nobody"})
        missing_scope = await http.post("/v1/score", json={"groups": [GROUP]}, headers=writer)
        pinned = await http.post("/m/toy@1/v1/score", json={"groups": [GROUP]})
        good = await http.post("/v1/score", json={"groups": [GROUP]}, headers=reader)
        models = await http.get("/v1/models", headers=writer)
        open_routes = [(await http.get(path)).status_code for path in ("/healthz", "/readyz")]
    assert (wrong.status_code, missing_scope.status_code, pinned.status_code) == (401, 403, 401)
    assert (good.status_code, models.status_code) == (200, 200)
    assert open_routes == [200, 200]


async def test_a_key_over_its_rate_is_told_when_to_come_back() -> None:
    headers = {"Authorization": "Bearer one"}
    async with serving(toy_settings(keys="one:score:6")) as http:
        replies = [
            await http.post("/v1/score", json={"groups": [GROUP]}, headers=headers)
            for _ in range(2)
        ]
    assert [reply.status_code for reply in replies] == [200, 429]
    assert int(replies[1].headers["retry-after"]) >= 1


async def test_a_full_queue_answers_503_with_retry_after() -> None:
    scorer, gate = ToyScorer(), threading.Event()
    scorer.before = lambda _: None if gate.wait(20) else None
    settings = toy_settings(max_queue_texts=2, max_request_texts=2)
    async with serving(settings, scorer) as http:

        async def send(text: str) -> httpx.Response:
            group = {"prompt": "p", "completions": [text]}
            return await http.post("/v1/score", json={"groups": [group]})

        tasks = [asyncio.create_task(send(str(i))) for i in range(8)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        replies = await asyncio.gather(*tasks)
    statuses = sorted(reply.status_code for reply in replies)
    assert set(statuses) == {200, 503}
    refused = next(iter(done)).result()
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert problem(refused)["type"] == "urn:assay:problem:overloaded"


async def test_an_answer_past_the_deadline_is_a_504() -> None:
    scorer, gate = ToyScorer(), threading.Event()
    scorer.before = lambda _: None if gate.wait(20) else None
    async with serving(toy_settings(request_timeout_s=0.2), scorer) as http:
        reply = await http.post("/v1/score", json={"groups": [GROUP]})
        gate.set()
    assert reply.status_code == 504
    problem(reply)


async def test_a_request_id_is_kept_if_it_is_one() -> None:
    async with serving() as http:
        kept = await http.get("/healthz", headers={"X-Request-Id": "run-7.step_3"})
        made = await http.get("/healthz", headers={"X-Request-Id": "bad id\t"})
    assert kept.headers["x-request-id"] == "run-7.step_3"
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"host": "0.0.0.0"}, "ASSAY_KEYS"),  # noqa: S104 - that it is refused is the point
        ({"port": 0}, "port"),
        ({"keys": "a:read"}, "key 1"),
        ({"max_queue_texts": 1}, "max_request_texts"),
        ({"max_replicas": 1, "replicas": 2}, "max_replicas"),
        ({"drain_s": 0}, "drain_s"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_remedy(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        toy_settings(**changes)


def test_a_client_that_hangs_up_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    app = create_app(toy_settings(), ToyScorer())
    with http_server(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: toy\r\nContent-Length: 900\r\n")
            connection.sendall(b'Content-Type: application/json\r\n\r\n{"groups": [')
        assert httpx.post(f"{url}/v1/score", json={"groups": [GROUP]}).status_code == 200
        until(lambda: app.state.runtime.in_flight == 0, 10, "the end of the broken request")
