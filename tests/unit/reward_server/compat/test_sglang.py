"""SGLang's `/classify`, `/v1/classify`, `/v1/embeddings`, `/v1/score` and `/v1/rerank`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from reward_server.app import create_app
from toy import LIMIT, ToyScorer, toy_settings

Ask = Callable[..., Any]


def by_hand(text: str) -> Any:
    """The toy's mean over three members: the sum of the bytes over 100, times 1, 2 and 3."""
    return pytest.approx(2 * sum(text.encode()) / 100)


def test_classify_answers_one_input_with_an_object_and_a_list_with_a_list(ask: Ask) -> None:
    single = ask("/classify", {"text": "ab", "rid": "r7"})
    assert single == {
        "embedding": [by_hand("ab")],
        "meta_info": {
            "id": "r7",
            "finish_reason": {"type": "length", "length": 0},
            "prompt_tokens": 2,
            "weight_version": "toy@1",
            "num_retractions": 0,
        },
    }
    several = ask("/classify", {"text": ["ab", "c"], "rid": ["r", "s"]})
    assert [entry["embedding"] for entry in several] == [[by_hand("ab")], [by_hand("c")]]
    assert [entry["meta_info"]["id"] for entry in several] == ["r", "s"]
    numbered = ask("/classify", {"text": ["ab", "c"], "rid": "r"})
    assert [entry["meta_info"]["id"] for entry in numbered] == ["r_0", "r_1"]


def test_classify_takes_token_ids_and_put(http: TestClient) -> None:
    single = http.put("/classify", json={"input_ids": [97, 98]}).json()
    several = http.put("/classify", json={"input_ids": [[97, 98], [99]]}).json()
    assert single["embedding"] == [by_hand("ab")]
    assert [entry["embedding"] for entry in several] == [[by_hand("ab")], [by_hand("c")]]


def test_what_verl_reads_off_embeddings_is_the_raw_score(ask: Ask) -> None:
    reply = ask("/v1/embeddings", {"model": "toy", "input": "abc"})
    assert reply["data"][-1]["embedding"][-1] == by_hand("abc")
    assert (reply["object"], reply["model"]) == ("list", "toy@1")
    assert reply["usage"]["prompt_tokens"] == 3


def test_embeddings_take_lists_ids_and_base64(ask: Ask) -> None:
    body = {"input": [[97, 98], "c"], "encoding_format": "base64"}
    coded = [entry["embedding"] for entry in ask("/v1/embeddings", body)["data"]]
    numbers = [struct.unpack("<f", base64.b64decode(text))[0] for text in coded]
    assert numbers == [by_hand("ab"), by_hand("c")]


def test_v1_classify_is_raw_and_not_a_softmax_of_one(ask: Ask) -> None:
    reply = ask("/v1/classify", {"model": "toy", "input": ["ab", "c"]})
    assert [entry["probs"] for entry in reply["data"]] == [[by_hand("ab")], [by_hand("c")]]
    assert reply["id"].startswith("classify-")


@pytest.mark.parametrize(
    ("body", "scored"),
    [
        ({"query": "q", "items": ["a", "b"]}, ["qa", "qb"]),
        ({"query": "q", "items": "a"}, ["qa"]),
        ({"query": [113], "items": [[97], [98, 99]]}, ["qa", "qbc"]),
        ({"query": "q", "items": ["a"], "item_first": True}, ["aq"]),
        ({"query": [113], "items": [[97]], "item_first": True}, ["aq"]),
        ({"query": "q", "items": ["a"], "apply_softmax": False, "label_token_ids": None}, ["qa"]),
        ({"query": "q", "items": []}, []),
    ],
)
def test_v1_score_scores_each_item_after_the_query(body: object, scored: list[str]) -> None:
    scorer = ToyScorer()
    with TestClient(create_app(toy_settings(cache_bytes=0), scorer)) as http:
        scorer.batches.clear()
        reply = http.post("/v1/score", json=body).json()
    assert reply["scores"] == [[by_hand(text)] for text in scored]
    assert (reply["object"], reply["model"]) == ("scoring", "toy@1")
    read = {bytes(text.ids).decode() for batch in scorer.batches for text in batch}
    assert read == set(scored)


def test_v1_rerank_is_a_list_where_the_operator_says_so() -> None:
    body = {"query": "q", "documents": ["a", "c"], "top_n": 1}
    with TestClient(create_app(toy_settings(rerank_reply="sglang"), ToyScorer())) as http:
        (best,) = http.post("/v1/rerank", json=body).json()
        bare = http.put("/v1/rerank", json={**body, "return_documents": False}).json()
        wrong = http.post("/v1/rerank", json={"query": "q"})
    assert (best["score"], best["document"], best["index"]) == (by_hand("qc"), "c", 1)
    assert best["meta_info"]["prompt_tokens"] == 2
    assert "document" not in bare[0]
    assert (wrong.status_code, wrong.json()["object"]) == (400, "error")


def test_a_text_that_is_too_long_loses_its_oldest_tokens(ask: Ask) -> None:
    reply = ask("/classify", {"text": "a" * LIMIT + "b"})
    assert reply["embedding"] == [by_hand("a" * (LIMIT - 1) + "b")]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"text": "a", "input_ids": [1]}, "input_ids"),
        ({"text": 3}, "text"),
        ({"text": ["a", ""]}, "text[1]"),
        ({"text": "a", "lora_path": "x"}, "lora_path"),
        ({"text": "a", "image_data": "x"}, "image_data"),
        ({"text": ["a"], "rid": ["r", "s"]}, "rid"),
        ({"input_ids": [256]}, "token ids"),
        ({"input_ids": [True]}, "input_ids[0]"),
    ],
)
def test_errors_of_the_native_route_have_a_message(
    ask: Ask, body: dict[str, Any], named: str
) -> None:
    reply = ask("/classify", body, 400)
    assert set(reply) == {"error"}
    assert set(reply["error"]) == {"message"}
    assert named in reply["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"input": "a", "dimensions": 8}, "dimensions"),
        ("/v1/classify", {"input": ""}, "input[0]"),
        ("/v1/score", {"query": "q", "items": ["a"], "label_token_ids": [1]}, "label_token_ids"),
        ("/v1/score", {"query": "q", "items": ["a"], "apply_softmax": True}, "apply_softmax"),
        ("/v1/score", {"query": "q", "items": [[97]]}, "body"),
        ("/v1/score", {"query": "q", "items": ["a"], "temperature": 0.5}, "temperature"),
    ],
)
def test_errors_under_v1_name_the_field(
    ask: Ask, path: str, body: dict[str, Any], param: str
) -> None:
    reply = ask(path, body, 400)
    assert set(reply) == {"object", "message", "type", "param", "code"}
    assert (reply["object"], reply["code"], reply["param"]) == ("error", 400, param)


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        ("/classify", {"text": []}, []),
        ("/classify", {"input_ids": []}, []),
        ("/v1/embeddings", {"input": []}, None),
        ("/v1/classify", {"input": []}, None),
    ],
)
def test_an_empty_list_gets_an_empty_list(
    ask: Ask, path: str, body: object, reply: list[object] | None
) -> None:
    answer = ask(path, body)
    assert (answer if reply is not None else answer["data"]) == []
