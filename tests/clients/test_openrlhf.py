"""OpenRLHF's own single-turn executor, with the engine that generates left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from assay.integrations import openrlhf
from native import native_score
from real_clients import Hurried, openrlhf_agent

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
]
ANSWER = "It is 4."


@dataclass
class Engine:
    """Generates one text, as vLLM would."""

    tokenizer: PreTrainedTokenizerBase
    text: str
    finish_reason: str

    async def generate(self, *_: Any, **__: Any) -> Any:
        ids = self.tokenizer(self.text, add_special_tokens=False)["input_ids"]
        made = SimpleNamespace(token_ids=ids, finish_reason=self.finish_reason, logprobs=None)
        return SimpleNamespace(outputs=[made])


def rollout(
    endpoint: str,
    tokenizer: PreTrainedTokenizerBase,
    answer: str = ANSWER,
    *,
    cut: bool = False,
    prompt: str | None = None,
) -> dict[str, Any]:
    """What OpenRLHF makes of one prompt: tokens, reward, scores, extra_logs."""
    if prompt is None:
        prompt = str(
            tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
        )
    executor = openrlhf_agent().SingleTurnAgentExecutor(endpoint)
    engine = Engine(tokenizer, answer + ("" if cut else "<|im_end|>"), "length" if cut else "stop")
    params = SimpleNamespace(max_tokens=64, logprobs=None)
    result: dict[str, Any] = asyncio.run(
        executor.execute(prompt, "4", params, 4096, tokenizer, engine)
    )
    if executor.reward_func:  # loaded by path, it has connections of its own
        executor.reward_func.__globals__["_rewarder"]().close()
    return result


@pytest.fixture(params=["url", "file"])
def endpoint(
    request: pytest.FixtureRequest, url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What `--reward.remote_url` is given: the route, or the reward function's file."""

    def make(**settings: str) -> str:
        if request.param == "url":
            query = "&".join(f"{name}={value}" for name, value in settings.items())
            return f"{url}/get_reward?{query}"
        monkeypatch.setenv("ASSAY_URL", url)
        for name, value in settings.items():
            monkeypatch.setenv(f"ASSAY_{name.upper()}", value)
        return openrlhf.__file__

    return make


def test_reward_version_and_std_arrive(
    endpoint: Callable[..., str], url: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    output = rollout(endpoint(), tokenizer)
    expected = native_score(url, MESSAGES, ANSWER)
    assert output["reward"] == [pytest.approx(expected["score"], abs=1e-5)]
    assert 0.0 <= output["scores"][0] <= 1.0
    logs = output["extra_logs"]
    assert all(torch.tensor([value]).shape == (1, 1) for value in logs.values())
    assert logs["assay_std"] == [pytest.approx(expected["std"], abs=1e-5)]
    assert logs["assay_version"] == [1]


def test_the_mode_is_chosen_by_the_url_or_the_environment(
    endpoint: Callable[..., str], url: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    output = rollout(endpoint(reward="lcb", lcb_k="2"), tokenizer)
    expected = native_score(url, MESSAGES, ANSWER, aggregate="lcb", lcb_k=2.0)
    assert output["reward"] == [pytest.approx(expected["score"], abs=1e-5)]


@pytest.mark.parametrize(("answer", "cut"), [("", False), ("It is", True), ("a <b> \n\n c", False)])
def test_answers_that_are_empty_or_cut_are_scored_as_natively(
    endpoint: Callable[..., str],
    url: str,
    tokenizer: PreTrainedTokenizerBase,
    answer: str,
    cut: bool,
) -> None:
    output = rollout(endpoint(), tokenizer, answer, cut=cut)
    sent: Any = answer or [{"role": "assistant", "content": ""}]
    expected = native_score(url, MESSAGES, sent, finished=not cut)
    assert output["reward"] == [pytest.approx(expected["score"], abs=1e-5)]


def test_a_prompt_in_no_template_is_a_prompt(
    endpoint: Callable[..., str], url: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    output = rollout(endpoint(), tokenizer, "4.", cut=True, prompt="2 + 2 = ")
    expected = native_score(url, "2 + 2 = ", "4.")
    assert output["reward"] == [pytest.approx(expected["score"], abs=1e-5)]


def test_no_answer_is_no_reward(
    endpoint: Callable[..., str],
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mode that the server cannot give: the sample is left without a reward, never with 0."""
    given = endpoint(reward="contrastive")
    monkeypatch.setattr(openrlhf_agent(), "asyncio", Hurried())
    monkeypatch.setenv("ASSAY_RETRIES", "0")
    output = rollout(given, tokenizer)
    assert (output["reward"], output["scores"], output["extra_logs"]) == (None, None, {})
