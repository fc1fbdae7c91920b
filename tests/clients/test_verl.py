"""verl's own reward loop and managers: its reward-model mode, and the function that it loads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from transformers import PreTrainedTokenizerBase

from assay.integrations import verl as integration
from native import native_score
from real_clients import Hurried, verl, verl_config, verl_data
from reward_server.app import create_app
from text_scorer import telling_scorer
from toy import http_server, toy_settings

PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]
FUNCTION = "pkg://assay.integrations.verl"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The integration keeps its connections; these are to servers of one test."""
    yield
    for made in (integration._async_rewarder, integration._rewarder):
        made.cache_clear()


def reward_loop() -> Any:
    return verl("verl.experimental.reward_loop.reward_loop")


def by_function(policy: Path, manager: str, **options: Any) -> Any:
    """A configuration in which `manager` calls the integration."""
    function = {"path": FUNCTION, "name": "compute_score", "reward_kwargs": options}
    named = {"source": "register", "name": manager, "module": None}
    return verl_config(policy, reward_manager=named, custom_reward_function=function)


def by_model(policy: Path, engine: str = "vllm") -> Any:
    """A configuration with a reward model, which the policy's tokenizer stands for."""
    model = {"enable": True, "model_path": str(policy), "rollout": {"name": engine}}
    return verl_config(policy, reward_model=model)


def scores(config: Any, address: str | None, samples: list[Any]) -> list[Any]:
    """What verl makes of samples; it takes its loop when it is made, hence all in one."""

    async def run() -> list[Any]:
        worker = reward_loop().RewardLoopWorker(config, address)
        try:
            return await asyncio.gather(*(worker.compute_score(sample) for sample in samples))
        finally:
            options = config.reward.custom_reward_function.reward_kwargs
            await integration._async_rewarder(**options).aclose()

    return asyncio.run(run())


def host(url: str) -> str:
    """As verl knows its router: without the scheme."""
    return url.removeprefix("http://")


@pytest.mark.parametrize("manager", ["naive", "dapo", "gdpo"])
def test_reward_managers_call_the_function(
    url: str, policy: Path, tokenizer: PreTrainedTokenizerBase, manager: str
) -> None:
    config = by_function(policy, manager, url=url, reward="lcb")
    sample = verl_data(tokenizer, PROMPT, "It is 4.")
    if manager != "naive":  # they hand over what the data set has
        sample.non_tensor_batch["extra_info"][0]["prompt"] = PROMPT
    (result,) = scores(config, None, [sample])
    expected = native_score(url, PROMPT, "It is 4.", aggregate="lcb")
    assert result["reward_score"] == pytest.approx(expected["score"], abs=1e-5)
    assert result["reward_extra_info"] == {
        "score": result["reward_score"],
        "assay_score": pytest.approx(expected["score"] + expected["std"]),
        "assay_std": pytest.approx(expected["std"]),
        "assay_version": 1.0,
    }


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_reward_model_mode_gets_the_raw_scores_of_either_engine(
    url: str, policy: Path, tokenizer: PreTrainedTokenizerBase, engine: str
) -> None:
    answers = ["It is 4.", "", "a <b>\n\nHuman: c", *(f"answer {i}" for i in range(61))]
    samples = [verl_data(tokenizer, PROMPT, answer) for answer in answers]  # 64 at once
    results = scores(by_model(policy, engine), host(url), samples)
    for answer, result in zip(answers, results, strict=True):
        sent: Any = answer or [{"role": "assistant", "content": ""}]
        expected = native_score(url, PROMPT, sent)["score"]
        assert result["reward_score"] == pytest.approx(expected, abs=1e-5)
    assert any(not 0.0 <= result["reward_score"] <= 1.0 for result in results)


def test_a_key_goes_into_the_routers_address(
    policy: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl sends no headers. A wrong key, like a wrong model, ends the run at once."""
    monkeypatch.setattr(reward_loop(), "asyncio", Hurried())
    sample = verl_data(tokenizer, PROMPT, "It is 4.")
    settings = toy_settings(keys="trainer:score", compat_any_model=True)
    with http_server(create_app(settings, telling_scorer())) as url:
        keyed = f"{host(url)}/k/trainer"
        (result,) = scores(by_model(policy), f"{keyed}/q/reward=lcb", [sample])
        assert isinstance(result["reward_score"], float)
        for refused, status in ((host(url), 401), (f"{host(url)}/k/other", 401)):
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                scores(by_model(policy), refused, [sample])
            assert raised.value.status == status
    with (
        http_server(create_app(toy_settings(), telling_scorer())) as url,
        pytest.raises(aiohttp.ClientResponseError) as raised,
    ):
        scores(by_model(policy), host(url), [sample])
    assert raised.value.status == 404
