"""The same conversation through every system's route: the score that `POST /v1/score` gives it.

A tiny random model with a chat template; the token ids are those of transformers' own template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from transformers import AutoTokenizer

from assay.models.loading import load
from reward_server.app import create_app
from tiny_models import save_family
from toy import toy_settings

TURNS = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "what is 2+2?"},
    {"role": "assistant", "content": "It is four."},
]
PROMPT, REPLY = "what is 2+2?", "It is four."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("llama", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(toy_settings(), load(str(folder)))) as client:
        yield client


def native(http: TestClient, prompt: object, **options: object) -> float:
    group = {"prompt": prompt, "completions": [REPLY], **options}
    reply = http.post("/v1/score", json={"groups": [group]}).json()
    score: float = reply["results"][0]["scores"][0]
    return score


def post(http: TestClient, path: str, **body: object) -> Any:
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_conversation_scores_the_same_as_messages_text_and_token_ids(
    http: TestClient, folder: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    ids = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=True)["input_ids"]
    answers = [
        post(http, "/classify", messages=TURNS)["data"][0]["probs"][0],
        post(http, "/classify", input=ids)["data"][0]["probs"][0],
        post(http, "/classify", input=text)["data"][0]["probs"][0],
        post(http, "/classify", input=text, add_special_tokens=False)["data"][0]["probs"][0],
        post(http, "/pooling", messages=TURNS)["data"][0]["data"][0],
        post(http, "/classify", input_ids=ids)["embedding"][0],
        post(http, "/classify", text=text)["embedding"][0],
        post(http, "/v1/embeddings", input=text)["data"][0]["embedding"][0],
        post(http, "/v1/classify", input=text)["data"][0]["probs"][0],
        post(http, "/predict", inputs=text)[0]["score"],
    ]
    assert answers == pytest.approx([native(http, TURNS[:-1])] * len(answers), abs=1e-5)


def test_a_pair_scores_the_same_everywhere(http: TestClient) -> None:
    answers = [
        post(http, "/score", queries=PROMPT, documents=REPLY)["data"][0]["score"],
        post(http, "/v1/score", text_1=PROMPT, text_2=REPLY)["data"][0]["score"],
        post(http, "/v1/score", query=PROMPT, items=[REPLY])["scores"][0][0],
        post(http, "/v1/rerank", query=PROMPT, documents=[REPLY])["results"][0]["relevance_score"],
        post(http, "/rerank", query=PROMPT, texts=[REPLY])[0]["score"],
        post(http, "/predict", inputs=[PROMPT, REPLY])[0]["score"],
    ]
    assert answers == pytest.approx([native(http, PROMPT)] * len(answers), abs=1e-5)


def test_a_message_that_goes_on_gets_no_end_token(http: TestClient) -> None:
    unfinished = post(http, "/classify", messages=TURNS, continue_final_message=True)
    expected = native(http, TURNS[:-1], finished=[False])
    assert unfinished["data"][0]["probs"][0] == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(native(http, TURNS[:-1]), abs=1e-3)
