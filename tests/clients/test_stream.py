"""A verl run sends one completion at a time; the online trainer gets whole groups of it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from transformers import PreTrainedTokenizerBase

from assay.integrations import verl as integration
from assay.schemas.storage import Sample
from real_clients import verl, verl_config, verl_data
from redis_server import RedisServer
from reward_server.app import create_app
from reward_trainer.online.groups import Group, Joined, Joining
from text_scorer import telling_scorer
from toy import http_server, toy_settings

pytestmark = pytest.mark.integration

PROMPTS, EACH = 8, 4


def samples(server: RedisServer) -> list[tuple[str, Sample]]:
    """What is in the stream, once all is."""
    ends_s = time.monotonic() + 60
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        while True:
            entries: Any = client.xrange("assay:samples")
            if len(entries) >= PROMPTS * EACH:
                return [
                    (key.decode(), Sample.model_validate_json(fields[b"data"]))
                    for key, fields in entries
                ]
            assert time.monotonic() < ends_s, len(entries)
            time.sleep(0.02)


def joined(entries: list[tuple[str, Sample]]) -> list[Joined]:
    """As the online trainer joins them."""
    joining = Joining(k_max=EACH, join_span=len(entries))
    return [group for entry in entries for group in joining.add(*entry)]


def run(config: Any, address: str | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """All completions of all prompts at once, in no order."""
    asked = [(p, c) for p in range(PROMPTS) for c in range(EACH)]
    random.Random(0).shuffle(asked)

    async def scored() -> None:
        loop = verl("verl.experimental.reward_loop.reward_loop")
        worker = loop.RewardLoopWorker(config, address)
        prompts = [[{"role": "user", "content": f"question {p}"}] for p, _ in asked]
        each = zip(prompts, asked, strict=True)
        data = [verl_data(tokenizer, prompt, f"answer {c}", index=p) for prompt, (p, c) in each]
        await asyncio.gather(*(worker.compute_score(one) for one in data))
        options = config.reward.custom_reward_function.reward_kwargs
        await integration._async_rewarder(**options).aclose()

    asyncio.run(scored())


def with_tap(policy: Path, url: str) -> tuple[Any, str | None]:
    model = {"enable": True, "model_path": str(policy), "rollout": {"name": "vllm"}}
    address = f"{url.removeprefix('http://')}/q/tap_policy=ppo"
    return verl_config(policy, reward_model=model), address


def with_posts(policy: Path, url: str) -> tuple[Any, str | None]:
    options = {"url": url, "samples_policy": "ppo"}
    function = {
        "path": "pkg://assay.integrations.verl",
        "name": "compute_score",
        "reward_kwargs": options,
    }
    return verl_config(policy, custom_reward_function=function), None


@pytest.mark.parametrize(("tap", "configure"), [(True, with_tap), (False, with_posts)])
def test_single_completions_become_whole_groups(
    redis_server: RedisServer,
    policy: Path,
    tokenizer: PreTrainedTokenizerBase,
    tap: bool,
    configure: Callable[[Path, str], tuple[Any, str | None]],
) -> None:
    settings = toy_settings(redis_url=redis_server.url, tap=tap, compat_any_model=True)
    with http_server(create_app(settings, telling_scorer())) as url:
        run(*configure(policy, url), tokenizer)
        entries = samples(redis_server)
    integration._async_rewarder.cache_clear()
    groups = joined(entries)
    assert len(groups) == PROMPTS
    assert all(isinstance(group, Group) for group in groups)
    texts = {
        json.dumps(group.model_dump(mode="json")["prompt"]): sorted(group.completions)
        for group in groups
        if isinstance(group, Group)
    }
    assert len(texts) == PROMPTS
    assert all(found == [f"answer {c}" for c in range(EACH)] for found in texts.values())
    assert {sample.policy for _, sample in entries} == {"ppo"}
