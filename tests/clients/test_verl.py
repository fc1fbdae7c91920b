"""verl's own reward loop and managers, with the function that they load by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from transformers import PreTrainedTokenizerBase

from assay.integrations import verl as integration
from native import native_score
from real_clients import verl, verl_config, verl_data

Result = TypeVar("Result")
PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]
FUNCTION = "pkg://assay.integrations.verl"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The integration keeps its connections; these are to servers of one test."""
    yield
    for made in (integration._async_rewarder, integration._rewarder):
        made.cache_clear()


def run(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """verl takes its loop when it is made, so that all of a test happens inside of one."""
    return asyncio.run(main())


@pytest.mark.parametrize("manager", ["naive", "dapo", "gdpo"])
def test_reward_managers_call_the_function(
    url: str, policy: Path, tokenizer: PreTrainedTokenizerBase, manager: str
) -> None:
    options = {"url": url, "reward": "lcb"}
    config = verl_config(
        policy,
        reward_manager={"source": "register", "name": manager, "module": None},
        custom_reward_function={
            "path": FUNCTION,
            "name": "compute_score",
            "reward_kwargs": options,
        },
    )

    async def scored() -> Any:
        worker = verl("verl.experimental.reward_loop.reward_loop").RewardLoopWorker(config)
        try:
            return await worker.compute_score(verl_data(tokenizer, PROMPT, "It is 4."))
        finally:
            await integration._async_rewarder(**options).aclose()

    result = run(scored)
    expected = native_score(url, PROMPT, "It is 4.", aggregate="lcb")
    assert result["reward_score"] == pytest.approx(expected["score"], abs=1e-5)
    figures = {"assay_version": 1.0, "assay_std": pytest.approx(expected["std"])}
    assert result["reward_extra_info"] == {"score": result["reward_score"], **figures}
