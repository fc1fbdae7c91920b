"""The real clients against `assay up`: 64 requests of each at once, scores as natively."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import AsyncInferenceClient

from assay import Client
from assay.integrations import verl as integration
from assay.integrations.trl import AsyncAssayReward
from real_clients import openrlhf_agent, save_policy, verl, verl_config, verl_data
from serving import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

QUESTIONS = [f"What is {n} + {n}?" for n in range(8)]
PAIRS = [(question, f"It is {n}.") for question in QUESTIONS for n in range(8)]
Score = Callable[[str, str], Awaitable[float]]


@pytest.fixture(scope="module")
def expected(up: Server) -> list[float]:
    """What `POST /v1/score` says."""
    groups = [{"prompt": chat(prompt), "completions": [text]} for prompt, text in PAIRS]
    with Client(up.url) as client:
        results = client.score_groups(groups).results
    scores = [float(result.scores[0] or 0.0) for result in results]
    assert statistics.stdev(scores) > 0.1
    return scores


def chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def templated(prompt: str, completion: str) -> tuple[str, str]:
    """As a Qwen tokenizer leaves them: the prompt, and both."""
    start = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    return start, f"{start}{completion}<|im_end|>"


def asked_at_once(score: Score, *closes: Callable[[], Awaitable[None]]) -> list[float]:
    """All pairs, in an event loop of their own; connections are closed in it."""

    async def run() -> list[float]:
        try:
            return await asyncio.gather(*(score(*pair) for pair in PAIRS))
        finally:
            for close in closes:
                await close()

    return asyncio.run(run())


def check(scores: Sequence[float], expected: list[float]) -> None:
    assert list(scores) == pytest.approx(expected, abs=1e-5)


def test_openrlhf(up: Server, expected: list[float]) -> None:
    check(asked_at_once(openrlhf_score(f"{up.url}/get_reward")), expected)


def test_openrlhf_with_the_contrastive_reward_over_stored_baselines(
    up: Server, expected: list[float]
) -> None:
    baselines = ["I cannot say.", "Ask me something else, will you?"]
    asked = [{"prompt": chat(question), "completions": baselines} for question in QUESTIONS]
    with Client(up.url) as client:
        client.put_baselines([{**each, "policy": "sft"} for each in asked])
        scored = {
            question: statistics.mean(score or 0.0 for score in result.scores)
            for question, result in zip(QUESTIONS, client.score_groups(asked).results, strict=True)
        }
    gains = [score - scored[question] for (question, _), score in zip(PAIRS, expected, strict=True)]
    check(asked_at_once(openrlhf_score(f"{up.url}/q/reward=contrastive/get_reward")), gains)


def openrlhf_score(url: str) -> Score:
    executor = openrlhf_agent().SingleTurnAgentExecutor(url)

    async def score(prompt: str, completion: str) -> float:
        start, query = templated(prompt, completion)
        (reply,) = await executor._fetch_rewards_via_http([query], [start], [None])
        assert reply["extra_logs"]["assay_version"] == [1.0]
        assert reply["extra_logs"]["assay_std"][0] > 0
        return float(reply["rewards"][0])

    return score


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_verls_reward_model_mode(
    up: Server, expected: list[float], tmp_path: Path, engine: str
) -> None:
    tokenizer = save_policy(tmp_path)
    model = {"enable": True, "model_path": str(tmp_path), "rollout": {"name": engine}}
    config = verl_config(tmp_path, reward_model=model)
    check(asked_at_once(verl_score(config, f"127.0.0.1:{up.port}", tokenizer)), expected)


def test_verls_function_mode(up: Server, expected: list[float], tmp_path: Path) -> None:
    tokenizer = save_policy(tmp_path)
    function = {
        "path": "pkg://assay.integrations.verl",
        "name": "compute_score",
        "reward_kwargs": {"url": up.url},
    }
    config = verl_config(tmp_path, custom_reward_function=function)
    close = integration._async_rewarder(url=up.url).aclose
    check(asked_at_once(verl_score(config, None, tokenizer), close), expected)


def verl_score(config: Any, address: str | None, tokenizer: Any) -> Score:
    worker: Any = None

    async def score(prompt: str, completion: str) -> float:
        nonlocal worker
        if worker is None:
            loop = verl("verl.experimental.reward_loop.reward_loop")
            worker = loop.RewardLoopWorker(config, address)
        reply = await worker.compute_score(verl_data(tokenizer, chat(prompt), completion))
        return float(reply["reward_score"])

    return score


def test_trls_reward_function(up: Server, expected: list[float]) -> None:
    reward = AsyncAssayReward(url=up.url)

    async def score(prompt: str, completion: str) -> float:
        turns = [{"role": "assistant", "content": completion}]
        (value,) = await reward([chat(prompt)], [turns])
        assert value is not None
        return value

    check(asked_at_once(score, reward.aclose), expected)


def test_huggingface_hub(up: Server, expected: list[float]) -> None:
    client = AsyncInferenceClient(model=f"{up.url}/predict")

    async def score(prompt: str, completion: str) -> float:
        result: Any = await client.text_classification(templated(prompt, completion)[1])
        return float(result.score)

    check(asked_at_once(score, client.close), expected)


@pytest.mark.parametrize("system", ["slime", "nemo_gym"])
def test_what_slime_and_nemo_gym_send(up: Server, expected: list[float], system: str) -> None:
    """slime is in no registry, and NeMo-Gym's row is what verifiers makes of it."""
    client = httpx.AsyncClient(base_url=up.url, timeout=60)

    async def score(prompt: str, completion: str) -> float:
        path, body = REQUESTS[system](prompt, completion)
        reply = await client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        value = reply.json()
        return float(value if system == "slime" else value["reward"])

    check(asked_at_once(score, client.aclose), expected)


def slime_request(prompt: str, completion: str) -> tuple[str, dict[str, Any]]:
    start, query = templated(prompt, completion)
    return "/rm", {"prompt": start, "response": query.removeprefix(start), "label": None}


def nemo_gym_request(prompt: str, completion: str) -> tuple[str, dict[str, Any]]:
    content = [{"type": "output_text", "text": completion, "annotations": []}]
    message = {"type": "message", "role": "assistant", "status": "completed", "content": content}
    return "/verify", {
        "responses_create_params": {"input": [{"role": "user", "content": prompt}]},
        "response": {"id": "r", "object": "response", "output": [message]},
    }


REQUESTS = {"slime": slime_request, "nemo_gym": nemo_gym_request}
