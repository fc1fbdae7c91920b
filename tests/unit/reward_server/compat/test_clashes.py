"""Whose request is it: paths that two systems share are told apart by the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

Ask = Callable[..., Any]
GROUPS = {"groups": [{"prompt": "q", "completions": ["a"]}]}


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("/classify", {"text": "a"}, "meta_info"),
        ("/classify", {"input_ids": [97]}, "meta_info"),
        ("/classify", {"input": "a"}, "data"),
        ("/classify", {"messages": [{"role": "user"}, {"role": "assistant"}]}, "data"),
        ("/rerank", {"query": "q", "documents": ["a"]}, "results"),
        ("/v1/rerank", {"query": "q", "documents": ["a"]}, "results"),
        ("/v1/score", GROUPS, "results"),
        ("/v1/score", {"query": "q", "items": ["a"]}, "scores"),
        ("/v1/score", {"queries": "q", "items": ["a"]}, "data"),
        ("/v1/score", {"data_1": "q", "data_2": ["a"]}, "data"),
        ("/v1/score", {"text_1": "q", "text_2": ["a"]}, "data"),
    ],
)
def test_the_reply_is_that_of_the_system_which_the_body_speaks(
    ask: Ask, path: str, body: object, found: str
) -> None:
    assert found in ask(path, body)


def test_texts_to_rerank_get_a_bare_list(ask: Ask) -> None:
    assert ask("/rerank", {"query": "q", "texts": ["a"]})[0]["index"] == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "keys"),
    [
        ("/classify", {"text": 3}, 400, {"error"}),
        ("/classify", {"input": 3}, 400, {"error"}),
        ("/classify", {"inputs": "a"}, 400, {"error"}),
        ("/classify", "a", 400, {"error"}),
        ("/rerank", {"texts": ["a"]}, 422, {"error", "error_type"}),
        ("/rerank", {"query": "q"}, 400, {"error"}),
        ("/v1/score", {"items": ["a"]}, 400, {"object", "message", "type", "param", "code"}),
        ("/v1/score", {"queries": ["a"]}, 400, {"error"}),
    ],
)
def test_so_is_the_refusal(ask: Ask, path: str, body: object, status: int, keys: set[str]) -> None:
    assert set(ask(path, body, status)) == keys


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b'{"groups": []}', 422, "groups: List should have at least 1 item"),
        (b'{"groups": [], "queries": "q"}', 422, "groups: List should have at least 1 item"),
        (b"{}", 422, "groups: Field required"),
        (b"[]", 422, "body: Input should be a valid dictionary"),
        (b"", 422, "body: Field required"),
        (b"{", 400, "the body is not JSON"),
        (b'{"groups": NaN}', 400, "the body is not JSON"),
    ],
)
def test_all_else_on_v1_score_is_answered_natively(
    http: TestClient, content: bytes, status: int, detail: str
) -> None:
    headers = {"Content-Type": "application/json"}
    reply = http.post("/v1/score", content=content, headers=headers)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.status_code == status
    assert reply.json()["detail"].startswith(detail)
