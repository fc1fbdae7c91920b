"""The compatible routes with the embedded default model and a real Redis: the native numbers."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from assay.errors import StartupError
from assay.models.loading import load
from assay.models.resolve import DEFAULT_MODEL
from redis_server import RedisServer
from reward_server.app import create_app
from reward_server.preflight import preflight
from reward_server.settings import ServerSettings
from serving import free_port

pytestmark = pytest.mark.integration

QUESTION = "Should smoking be banned in public?"
ANSWER = "Yes, because second-hand smoke harms people who never chose it."
MESSAGES = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello. What is it?"},
    {"role": "user", "content": QUESTION},
]
BASELINES = ["no", "Bans work: hospitals saw fewer heart attacks within a year."]
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
# Prompt and end of the answer as each family's chat template writes them.
TEXTS = {
    "qwen3": (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHello. What is it?<|im_end|>\n"
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>\n",
    ),
    "llama3": (
        f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{DATES}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello. What is it?<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{QUESTION}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "gemma": (
        "<bos><start_of_turn>user\nHello<end_of_turn>\n"
        "<start_of_turn>model\nHello. What is it?<end_of_turn>\n"
        f"<start_of_turn>user\n{QUESTION}<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n<pad><pad>",
    ),
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def http(redis: RedisServer) -> Iterator[TestClient]:
    settings = ServerSettings(_env_file=None, redis_url=redis.url, tap=True)
    with TestClient(create_app(settings, load(DEFAULT_MODEL))) as client:
        items = [{"prompt": MESSAGES, "completions": BASELINES, "policy": "sft"}]
        assert client.put("/v1/baselines", json={"items": items}).status_code == 200
        yield client


def native(http: TestClient, path: str) -> Any:
    body = {"groups": [{"prompt": MESSAGES, "completions": [ANSWER]}]}
    return http.post(path, json=body).json()["results"][0]


def bodies(family: str) -> dict[str, dict[str, Any]]:
    prompt, end = TEXTS[family]
    output = [{"type": "message", "content": [{"type": "output_text", "text": ANSWER}]}]
    return {
        "/get_reward": {"query": [f"{prompt}{ANSWER}{end}"], "prompts": [prompt], "labels": [None]},
        "/rm?reply=object": {"prompt": prompt, "response": ANSWER},
        "/verify": {"responses_create_params": {"input": MESSAGES}, "response": {"output": output}},
    }


@pytest.mark.parametrize("family", TEXTS)
def test_scores_and_stored_baselines_are_those_of_the_native_routes(
    http: TestClient, family: str
) -> None:
    scored, contrast = native(http, "/v1/score"), native(http, "/v1/contrastive")
    score = pytest.approx(scored["scores"][0], abs=1e-5)
    std = pytest.approx(scored["std"][0], abs=1e-5)
    gain = pytest.approx(contrast["rewards"][0], abs=1e-5)
    assert contrast["baseline"]["source"] == "stored"
    replies = {path: http.post(path, json=body) for path, body in bodies(family).items()}
    assert [reply.status_code for reply in replies.values()] == [200] * 3
    openrlhf, slime, nemo_gym = (reply.json() for reply in replies.values())
    assert openrlhf["rewards"] == [score]
    logs = openrlhf["extra_logs"]
    assert (logs["assay_std"], logs["assay_contrastive"]) == ([std], [gain])
    assert logs["assay_baselines"] == [2.0]
    assert (slime["reward"], slime["std"], slime["contrastive"]) == (score, std, gain)
    assert (nemo_gym["reward"], nemo_gym["assay_std"]) == (score, std)
    assert nemo_gym["assay_contrastive"] == gain
    # Without its prompts, OpenRLHF's query is split by its template.
    alone = {"query": bodies(family)["/get_reward"]["query"]}
    assert http.post("/get_reward", json=alone).json() == openrlhf


@pytest.mark.parametrize("path", bodies("qwen3"))
def test_a_url_alone_selects_the_contrastive_reward(http: TestClient, path: str) -> None:
    body = {"groups": [{"prompt": MESSAGES, "completions": [ANSWER]}], "aggregate": "lcb"}
    lower = http.post("/v1/contrastive", json=body).json()["results"][0]["rewards"][0]
    for query, expected in (
        ("reward=contrastive", native(http, "/v1/contrastive")["rewards"][0]),
        ("reward=contrastive&lcb_k=1&policy=sft", lower),
    ):
        reply = http.post(f"/q/{query}{path}", json=bodies("qwen3")[path])
        body = reply.json()
        reward = body["rewards"][0] if "rewards" in body else body["reward"]
        assert reward == pytest.approx(expected, abs=1e-5)
    parts = reply.json().get("reward_components", {"reward": reward})
    assert sum(parts.values()) == pytest.approx(reward, abs=1e-9)


def test_a_missing_baseline_is_503_where_it_is_the_reward_and_a_flag_elsewhere(
    http: TestClient,
) -> None:
    known, other = bodies("qwen3")["/get_reward"]["query"][0], "Why? No."
    missing = http.post(
        "/get_reward?reward=contrastive", json={"query": [known, other], "prompts": ["", "Why?"]}
    )
    no_policy = http.post("/get_reward?reward=contrastive&policy=no", json={"query": [known]})
    no_prompt = http.post("/get_reward?reward=contrastive", json={"query": [other]})
    assert (missing.status_code, no_policy.status_code, no_prompt.status_code) == (503, 503, 422)
    assert [error["path"] for error in missing.json()["errors"]] == ["query[1]"]
    plain = http.post("/get_reward", json={"query": [other], "prompts": ["Why?"]})
    assert plain.status_code == 200
    assert plain.json()["extra_logs"]["assay_baselines"] == [0.0]


def test_single_completions_reach_the_tap_as_samples_of_one_prompt(
    http: TestClient, redis: RedisServer
) -> None:
    prompt, end = TEXTS["llama3"]
    answers = ["Ban it.", "Leave it."]
    for answer in answers:
        body = {"query": [f"{prompt}{answer}{end}"], "prompts": [prompt]}
        http.post("/get_reward?tap_policy=ours&tap_step=7", json=body)
    http.post("/get_reward?tap_policy=ours", json={"query": ["no known prompt"]})
    samples: list[Any] = []
    ends_s = time.monotonic() + 60
    while len(samples) < 2 and time.monotonic() < ends_s:
        samples = [sample for sample in stored_samples(redis) if sample["policy"] == "ours"]
    assert [(each["completions"], each["step"]) for each in samples] == [([a], 7) for a in answers]
    assert [each["prompt"] for each in samples] == [MESSAGES] * 2


def stored_samples(server: RedisServer) -> list[Any]:
    with Redis(unix_socket_path=str(server.socket)) as client:
        entries: Any = client.xrange("assay:samples")
    return [json.loads(fields[b"data"]) for _, fields in entries]


def test_contrastive_as_the_setting_needs_baselines_at_the_start(
    http: TestClient, redis: RedisServer, tmp_path: Path
) -> None:
    def start(redis_url: str | None) -> object:
        return preflight(
            ServerSettings(
                _env_file=None,
                port=free_port(),
                home=tmp_path,
                reward="contrastive",
                redis_url=redis_url,
            )
        )

    assert str(start(redis.url)) == "assay-minilm@1"
    with pytest.raises(StartupError, match="ASSAY_REDIS_URL"):
        start(None)
    with pytest.raises(StartupError, match="there are none"):
        start(f"{redis.url}?db=1")
    with pytest.raises(StartupError, match="does not answer"):
        start(f"unix://{tmp_path}/no.sock")


def test_without_redis_the_score_goes_on_and_the_contrastive_reward_is_503(
    http: TestClient, redis: RedisServer
) -> None:
    body = bodies("gemma")["/verify"]
    redis.kill()
    try:
        plain = http.post("/verify", json=body)
        contrastive = http.post("/verify?reward=contrastive", json=body)
    finally:
        redis.start()
    assert plain.status_code == 200
    assert "assay_contrastive" not in plain.json()
    assert contrastive.status_code == 503
