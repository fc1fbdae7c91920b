"""A server that drains for two requests of each client, and is well again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from transformers import PreTrainedTokenizerBase

from assay.integrations.trl import AssayReward
from native import native_score
from real_clients import Hurried, openrlhf_agent, verl, verl_config, verl_data
from reward_server.app import create_app
from text_scorer import telling_scorer
from toy import http_server, toy_settings

PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]


class Unwell:
    """The app, whose replica drains while the first two requests of a path arrive."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.seen: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.seen[scope["path"]] += 1
            drains = self.seen[scope["path"]] <= 2
            self.app.state.runtime._state = "draining" if drains else "ready"
        await self.app(scope, receive, send)


@pytest.fixture
def unwell() -> Unwell:
    return Unwell(create_app(toy_settings(compat_any_model=True), telling_scorer()))


@pytest.fixture
def url(unwell: Unwell) -> Iterator[str]:
    with http_server(unwell) as base:  # type: ignore[arg-type]
        yield base


def test_openrlhf_tries_again(url: str, unwell: Unwell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openrlhf_agent(), "asyncio", Hurried())
    executor = openrlhf_agent().SingleTurnAgentExecutor(f"{url}/get_reward")
    asked = executor._fetch_rewards_via_http(["2 + 2 = 4."], ["2 + 2 = "], [None])
    (reply,) = asyncio.run(asked)
    assert unwell.seen["/get_reward"] == 3
    unwell.seen["/v1/score"] = 2
    expected = native_score(url, "2 + 2 = ", "4.")["score"]
    assert reply["rewards"] == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(("engine", "path"), [("vllm", "/classify"), ("sglang", "/v1/embeddings")])
def test_verl_tries_again(
    url: str,
    unwell: Unwell,
    policy: Path,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    path: str,
) -> None:
    loop = verl("verl.experimental.reward_loop.reward_loop")
    monkeypatch.setattr(loop, "asyncio", Hurried())
    model = {"enable": True, "model_path": str(policy), "rollout": {"name": engine}}

    async def scored() -> Any:
        address = url.removeprefix("http://")
        worker = loop.RewardLoopWorker(verl_config(policy, reward_model=model), address)
        return await worker.compute_score(verl_data(tokenizer, PROMPT, "It is 4."))

    result = asyncio.run(scored())
    assert unwell.seen[path] == 3
    unwell.seen["/v1/score"] = 2
    expected = native_score(url, PROMPT, "It is 4.")["score"]
    assert result["reward_score"] == pytest.approx(expected, abs=1e-5)


def test_integrations_try_again(url: str, unwell: Unwell) -> None:
    reward = AssayReward(url=url)
    (score,) = reward(["p"], ["c"])
    reward.close()
    assert unwell.seen["/v1/score"] == 3
    assert score == pytest.approx(native_score(url, "p", "c")["score"], abs=1e-5)
