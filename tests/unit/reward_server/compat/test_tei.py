"""TEI's `/predict`, `/rerank` and `/info`, with Hugging Face's own client where it has one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from starlette.testclient import TestClient

from reward_server.app import create_app
from toy import LIMIT, ToyScorer, http_server, toy_settings

Ask = Callable[..., Any]


def by_hand(text: str) -> Any:
    """The toy's mean over three members: the sum of the bytes over 100, times 1, 2 and 3."""
    return pytest.approx(2 * sum(text.encode()) / 100)


def entry(text: str) -> dict[str, Any]:
    return {"score": by_hand(text), "label": "LABEL_0"}


@pytest.mark.parametrize(
    ("inputs", "reply"),
    [
        ("ab", [entry("ab")]),
        (["a", "b"], [entry("ab")]),
        (["ab"], [entry("ab")]),
        ([["a"], ["b", "c"]], [[entry("a")], [entry("bc")]]),
        ([], []),
    ],
)
def test_predict_tells_one_text_a_pair_and_a_batch_apart(
    ask: Ask, inputs: object, reply: object
) -> None:
    assert ask("/predict", {"inputs": inputs}) == reply


def test_a_pair_is_prompt_and_completion_as_natively(ask: Ask) -> None:
    group = {"prompt": "What?", "completions": ["That."]}
    native = ask("/v1/score", {"groups": [group]})
    (foreign,) = ask("/predict", {"inputs": ["What?", "That."], "raw_scores": True})
    assert [foreign["score"]] == native["results"][0]["scores"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 1.94),
        ({"raw_scores": None}, 1.94),
        ({"raw_scores": True}, 1.94),
        ({"raw_scores": False}, 1 / (1 + math.exp(-1.94))),
    ],
)
def test_a_sigmoid_is_applied_only_if_it_is_asked_for_by_name(
    ask: Ask, asked: dict[str, Any], expected: float
) -> None:
    (predicted,) = ask("/predict", {"inputs": "a", **asked})
    (ranked,) = ask("/rerank", {"query": "1", "texts": ["0"], **asked})  # 49 + 48 = 97, as of "a"
    assert [predicted["score"], ranked["score"]] == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("asked", "scored"),
    [
        ({}, "a" * (LIMIT - 1) + "b"),
        ({"truncate": True}, "a" * (LIMIT - 1) + "b"),
        ({"truncation_direction": "left"}, "a" * (LIMIT - 1) + "b"),
        ({"truncate": True, "truncation_direction": "Right"}, "a" * LIMIT),
    ],
)
def test_a_text_that_is_too_long_is_cut_on_the_side_that_is_named(
    ask: Ask, asked: dict[str, Any], scored: str
) -> None:
    assert ask("/predict", {"inputs": "a" * LIMIT + "b", **asked}) == [entry(scored)]


def test_rerank_puts_the_best_first_and_gives_texts_if_asked(ask: Ask) -> None:
    body = {"query": "q", "texts": ["a", "c", "b"]}
    scores = {"a": by_hand("qa"), "b": by_hand("qb"), "c": by_hand("qc")}
    order = [(1, "c"), (2, "b"), (0, "a")]
    assert ask("/rerank", body) == [{"index": i, "score": scores[t]} for i, t in order]
    with_texts = ask("/rerank", {**body, "return_text": True})
    assert [(rank["index"], rank["text"]) for rank in with_texts] == order
    assert ask("/rerank", {"query": "q", "texts": []}) == []


def test_replies_count_characters_tokens_and_milliseconds(http: TestClient) -> None:
    reply = http.post("/rerank", json={"query": "é", "texts": ["a", "bc"]})
    assert reply.headers["x-compute-characters"] == "5"
    assert reply.headers["x-compute-tokens"] == "7"  # the toy has one token a byte
    assert int(reply.headers["x-total-time"]) >= 0
    assert reply.headers["x-compute-time"] == reply.headers["x-total-time"]


def test_info_tells_the_limits(http: TestClient) -> None:
    info = http.get("/info").json()
    assert (info["model_id"], info["served_model_name"]) == ("toy@1", "toy")
    assert info["model_type"] == {
        "reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    }
    assert (info["max_input_length"], info["auto_truncate"]) == (LIMIT, True)


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/predict", {"inputs": ["a", "b", "c"]}, "[[...], [...]]"),
        ("/predict", {"inputs": [["a"], "b"]}, "inputs[1]"),
        ("/predict", {"inputs": [["a"], ["b", 3]]}, "inputs[1][1]"),
        ("/predict", {"inputs": ""}, "inputs"),
        ("/predict", {"inputs": 3}, "inputs"),
        ("/predict", {}, "inputs"),
        ("/predict", {"inputs": "a" * (LIMIT + 1), "truncate": False}, "tokens"),
        ("/predict", {"inputs": "a", "truncation_direction": "up"}, "truncation_direction"),
        ("/predict", {"inputs": "a", "raw_scores": "no"}, "raw_scores"),
        ("/predict", {"inputs": "a", "prompt_name": "x"}, "prompt_name"),
        ("/predict", {"inputs": "a", "parameters": {"function_to_apply": "softmax"}}, "function"),
        ("/rerank", {"texts": ["a"]}, "query"),
        ("/rerank", {"query": "q", "texts": ["a", ""]}, "texts[1]"),
    ],
)
def test_errors_have_a_message_and_a_type(
    ask: Ask, path: str, body: dict[str, Any], named: str
) -> None:
    reply = ask(path, body, 422)
    assert set(reply) == {"error", "error_type"}
    assert reply["error_type"] == "Validation"
    assert named in reply["error"]


def test_hugging_faces_client_gets_the_native_score() -> None:
    with http_server(create_app(toy_settings(), ToyScorer())) as url:
        client = InferenceClient(model=f"{url}/predict")
        raw = client.text_classification("ab")
        squashed = client.text_classification("a", function_to_apply="sigmoid", top_k=1)
    # Written for lists of lists, it gives TEI's single entry.
    assert (raw.label, raw.score) == ("LABEL_0", by_hand("ab"))  # type: ignore[attr-defined]
    assert squashed.score == pytest.approx(1 / (1 + math.exp(-1.94)))  # type: ignore[attr-defined]
