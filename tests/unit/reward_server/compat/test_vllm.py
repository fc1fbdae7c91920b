"""vLLM's `/classify`, `/pooling`, `/score` and `/rerank`, as its clients use them."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from reward_server.app import create_app
from toy import LIMIT, ToyScorer, toy_settings

Ask = Callable[..., Any]


def by_hand(text: str) -> float:
    """The toy's mean over three members: the sum of the bytes over 100, times 1, 2 and 3."""
    return 2 * sum(text.encode()) / 100


def test_classify_gives_the_raw_score_of_each_text(ask: Ask) -> None:
    body = {"model": "toy", "input": ["ab", "c"], "request_id": "r7", "user": "u", "priority": 0}
    reply = ask("/classify", body)
    assert reply.pop("created") > 1_700_000_000
    assert reply == {
        "id": "classify-r7",
        "object": "list",
        "model": "toy@1",
        "data": [
            {
                "index": i,
                "label": "LABEL_0",
                "probs": [pytest.approx(by_hand(text))],
                "num_classes": 1,
            }
            for i, text in enumerate(["ab", "c"])
        ],
        "usage": {
            "prompt_tokens": 3,
            "total_tokens": 3,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 1.94),
        ({"use_activation": None}, 1.94),
        ({"use_activation": False}, 1.94),
        ({"use_activation": True}, 1 / (1 + math.exp(-1.94))),
    ],
)
def test_a_sigmoid_is_applied_only_if_it_is_asked_for_by_name(
    ask: Ask, asked: dict[str, Any], expected: float
) -> None:
    assert by_hand("a") == pytest.approx(1.94)
    (classified,) = (ask("/classify", {"input": "a", **asked}))["data"]
    (pooled,) = (ask("/pooling", {"input": "a", **asked}))["data"]
    pair = {"queries": "1", "documents": "0"}  # bytes 49 + 48 = 97, as of "a"
    (scored,) = (ask("/score", {**pair, **asked}))["data"]
    values = [classified["probs"][0], pooled["data"][0], scored["score"]]
    assert values == pytest.approx([expected] * 3)


def test_what_verl_sends_is_answered_with_the_raw_score(ask: Ask) -> None:
    reply = ask("/classify", {"model": "toy", "input": "abc", "use_activation": False})
    assert reply["data"][-1]["probs"][-1] == pytest.approx(by_hand("abc"))


@pytest.mark.parametrize(
    ("asked", "scored"),
    [
        ({"input": [97, 98]}, "ab"),
        ({"input": [[97, 98]]}, "ab"),
        ({"input": "ab", "add_special_tokens": False}, "ab"),
        ({"input": "abcd", "truncate_prompt_tokens": 2}, "cd"),
        ({"input": "abcd", "truncate_prompt_tokens": 2, "truncation_side": "right"}, "ab"),
        ({"input": [97, 98, 99], "truncate_prompt_tokens": 1, "truncation_side": "left"}, "c"),
        ({"input": "abcd", "truncate_prompt_tokens": 9}, "abcd"),
        ({"input": "a" * LIMIT + "b", "truncate_prompt_tokens": -1}, "a" * (LIMIT - 1) + "b"),
        ({"input": "a" * LIMIT + "b"}, "a" * (LIMIT - 1) + "b"),
        ({"input": "a" * LIMIT + "b", "truncation_side": "right"}, "a" * LIMIT),
    ],
)
def test_token_ids_and_truncation_are_honoured(
    ask: Ask, asked: dict[str, Any], scored: str
) -> None:
    (entry,) = (ask("/classify", asked))["data"]
    assert entry["probs"] == pytest.approx([by_hand(scored)])


def test_a_header_counts_the_inputs_that_lost_tokens(http: TestClient) -> None:
    cut = http.post("/classify", json={"input": ["abc", "a"], "truncate_prompt_tokens": 2})
    whole = http.post("/classify", json={"input": ["ab", "a"]})
    assert cut.headers["x-assay-truncated"] == "1"
    assert "x-assay-truncated" not in whole.headers


def test_messages_score_like_the_same_messages_natively(ask: Ask) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    group = {"prompt": turns[:1], "completions": [turns[1:]]}
    native = ask("/v1/score", {"groups": [group]})
    foreign = ask("/classify", {"messages": turns})
    assert foreign["data"][0]["probs"] == native["results"][0]["scores"]


@pytest.mark.parametrize(
    "names",
    [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")],
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_score_takes_one_query_for_all_or_one_for_each(
    ask: Ask, path: str, names: tuple[str, str]
) -> None:
    first, second = names
    one = ask(path, {first: "q", second: ["a", "b"], "request_id": "r"})
    assert one["id"] == "score-r"
    assert one["usage"]["prompt_tokens"] == 4
    assert one["data"] == [
        {"index": 0, "object": "score", "score": pytest.approx(by_hand("qa"))},
        {"index": 1, "object": "score", "score": pytest.approx(by_hand("qb"))},
    ]
    each = ask(path, {first: ["q", "r"], second: ["a", "b"]})
    assert [entry["score"] for entry in each["data"]] == pytest.approx(
        [by_hand("qa"), by_hand("rb")]
    )


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_puts_the_best_first(ask: Ask, path: str) -> None:
    body = {"query": "q", "documents": ["a", "c", "b"], "top_n": 2, "request_id": "r"}
    reply = ask(path, body)
    assert reply == {
        "id": "rerank-r",
        "model": "toy@1",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
        "results": [
            {
                "index": index,
                "document": {"text": text, "multi_modal": None},
                "relevance_score": pytest.approx(by_hand(f"q{text}")),
            }
            for index, text in ((1, "c"), (2, "b"))
        ],
    }
    whole = ask(path, {"query": "q", "documents": ["a", "c", "b"]})
    assert [entry["index"] for entry in whole["results"]] == [1, 2, 0]


def test_pooling_writes_numbers_base64_or_bytes(ask: Ask, http: TestClient) -> None:
    body = {"input": ["ab", "c"], "task": "classify", "request_id": "r"}
    plain = ask("/pooling", body)
    assert plain["id"] == "pool-r"
    assert plain["data"] == [
        {"index": 0, "object": "pooling", "data": [pytest.approx(by_hand("ab"))]},
        {"index": 1, "object": "pooling", "data": [pytest.approx(by_hand("c"))]},
    ]
    coded = ask("/pooling", {**body, "encoding_format": "base64", "endianness": "big"})
    numbers = [struct.unpack(">f", base64.b64decode(entry["data"])) for entry in coded["data"]]
    assert numbers == [pytest.approx((by_hand("ab"),)), pytest.approx((by_hand("c"),))]
    asked = {**body, "encoding_format": "bytes", "embed_dtype": "float16", "endianness": "little"}
    packed = http.post("/pooling", json=asked)
    bare = http.post("/pooling", json={**asked, "encoding_format": "bytes_only"})
    assert packed.headers["content-type"] == "application/octet-stream"
    assert struct.unpack("<ee", packed.content) == pytest.approx(
        (by_hand("ab"), by_hand("c")), rel=1e-3
    )
    places = json.loads(packed.headers["metadata"])
    assert {"id", "created", "model", "data", "usage"} == set(places)
    assert places["data"][1] == {
        "index": 1,
        "embed_dtype": "float16",
        "endianness": "little",
        "start": 2,
        "end": 4,
        "shape": [1],
    }
    assert (bare.content, "metadata" in bare.headers) == (packed.content, False)


def test_a_score_that_float16_cannot_hold_is_no_infinity() -> None:
    asked = {"input": "a", "encoding_format": "base64", "embed_dtype": "float16"}
    with TestClient(create_app(toy_settings(), ToyScorer(version=100))) as http:
        reply = http.post("/pooling", json=asked)
    assert reply.status_code == 400
    assert "float16" in reply.json()["error"]["message"]


USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/classify", {"input": "a", "normalize": True}, "normalize"),
        ("/classify", {"input": "a", "cache_salt": "x"}, "cache_salt"),
        ("/classify", {"input": "a", "priority": 1}, "priority"),
        ("/classify", {"input": "a", "truncate_prompt_tokens": 0}, "body"),
        ("/classify", {"input": "a", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ("/classify", {"input": "a", "use_activation": "yes"}, "use_activation"),
        ("/classify", {"input": ["a", ""]}, "input[1]"),
        ("/classify", {"input": ["a", 3]}, "input[1]"),
        ("/classify", {"input": [[]]}, "input[0]"),
        ("/classify", {"input": [97, -1]}, "input[0][1]"),
        ("/classify", {"input": [97, 256]}, "input[0]"),
        ("/classify", {"input": {"text": "a"}}, "input"),
        ("/classify", {}, "input"),
        ("/classify", {"messages": [USER]}, "body"),
        ("/classify", {"messages": [ASSISTANT]}, "body"),
        ("/classify", {"messages": []}, "messages"),
        ("/classify", {"messages": [USER, ASSISTANT], "chat_template": "x"}, "chat_template"),
        (
            "/classify",
            {"messages": [USER, ASSISTANT], "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        ("/pooling", {"input": "a", "task": "token_classify"}, "task"),
        ("/pooling", {"input": "a", "dimensions": 8}, "dimensions"),
        ("/pooling", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("/score", {"queries": ["a", "b"], "documents": ["c"]}, "body"),
        ("/score", {"queries": "a"}, "documents"),
        ("/rerank", {"query": "q", "documents": ["a", ""]}, "documents[1]"),
        ("/rerank", {"query": ["q"], "documents": ["a"]}, "query"),
        ("/rerank", {"query": "q", "documents": ["a"], "top_n": -1}, "top_n"),
        ("/rerank", {"query": "q", "documents": ["a"], "instruct": "x"}, "instruct"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_by_name(
    ask: Ask, path: str, body: dict[str, Any], param: str
) -> None:
    error = (ask(path, body, 400))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"], error["type"]) == (param, 400, "BadRequestError")


@pytest.mark.parametrize(
    ("path", "body", "entries"),
    [
        ("/classify", {"input": []}, "data"),
        ("/pooling", {"input": []}, "data"),
        ("/score", {"queries": [], "documents": []}, "data"),
        ("/score", {"queries": "q", "documents": []}, "data"),
        ("/rerank", {"query": "q", "documents": []}, "results"),
    ],
)
def test_an_empty_list_gets_an_empty_list(
    ask: Ask, path: str, body: dict[str, Any], entries: str
) -> None:
    assert (ask(path, body))[entries] == []


def test_a_model_card_has_what_vllms_clients_read(http: TestClient) -> None:
    (card,) = http.get("/v1/models").json()["data"]
    alive = [http.get(path).status_code for path in ("/health", "/ping")]
    assert (card["object"], card["root"], card["max_model_len"]) == ("model", "toy", LIMIT)
    assert alive == [200, 200]
