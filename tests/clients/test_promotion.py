"""64 requests of each client at once, while a new version takes over: none fails, none is mixed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from transformers import PreTrainedTokenizerBase

from assay.integrations.trl import AsyncAssayReward
from fleet import LATE_S, NAME, Replica, fleet, offline
from real_clients import openrlhf_agent, verl, verl_config, verl_data
from redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CALLERS = 64
Call = Callable[[str], Awaitable[float]]


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The app, which runs already, on a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


def openrlhf_client(address: str) -> Call:
    executor = openrlhf_agent().SingleTurnAgentExecutor(f"http://{address}/get_reward")

    async def call(prompt: str) -> float:
        (reply,) = await executor._fetch_rewards_via_http([f"{prompt}c"], [prompt], [None])
        return float(reply["rewards"][0])

    return call


def verl_client(engine: str, policy: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    def make(address: str) -> Call:
        model = {"enable": True, "model_path": str(policy), "rollout": {"name": engine}}
        config = verl_config(policy, reward_model=model)
        loop = verl("verl.experimental.reward_loop.reward_loop")
        worker = loop.RewardLoopWorker(config, address)

        async def call(prompt: str) -> float:
            messages = [{"role": "user", "content": prompt}]
            reply = await worker.compute_score(verl_data(tokenizer, messages, "c"))
            return float(reply["reward_score"])

        return call

    return make


def as_messages(prompt: str) -> str:
    """A prompt as the toy reads it, where it came as a chat message."""
    return f"\n\nHuman: {prompt}\n\nAssistant:"


async def until_promoted(calls: dict[str, Call], replica: Replica) -> dict[str, list[Any]]:
    """Each client's callers ask without a pause; in the middle version 2 takes over."""
    answers: dict[str, list[Any]] = {name: [] for name in calls}
    stop = asyncio.Event()

    async def ask(name: str, caller: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            prompt = f"{caller}.{number}"
            answers[name].append((prompt, await calls[name](prompt)))

    callers = [asyncio.create_task(ask(n, i)) for n in calls for i in range(CALLERS)]
    path = f"/v1/models/{NAME}@2/promote"
    done = await replica.http.post(path, params={"wait_s": LATE_S, "swap_when": "now"})
    assert done.status_code == 200, done.text
    before = {name: len(answers[name]) for name in calls}
    while any(len(answers[name]) < before[name] + 2 * CALLERS for name in calls):
        await asyncio.sleep(0.02)
        failed = [task.exception() for task in callers if task.done()]
        assert not failed, failed
    stop.set()
    await asyncio.gather(*callers)
    return answers


async def test_no_client_fails_and_every_score_is_its_versions(
    redis_server: RedisServer, tmp_path: Path, policy: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    async with fleet(redis_server, tmp_path) as replicas:
        replica = await replicas.add()
        async with listening(replica.app) as address:
            trl = AsyncAssayReward(url=f"http://{address}")

            async def trl_call(prompt: str) -> float:
                (reward,) = await trl([prompt], ["c"])
                assert reward is not None
                return reward

            calls: dict[str, Call] = {
                "trl": trl_call,
                "openrlhf": openrlhf_client(address),
                "verl": verl_client("vllm", policy, tokenizer)(address),
            }
            answers = await until_promoted(calls, replica)
            await trl.aclose()
    for name, pairs in answers.items():
        spelled = as_messages if name == "verl" else str
        versions = set()
        for prompt, score in pairs:
            by_version = {v: offline(v, spelled(prompt), "c") for v in (1, 2)}
            matching = [v for v, value in by_version.items() if abs(value - score) < 1e-5]
            assert matching, (name, prompt, score, by_version)
            versions |= set(matching)
        assert versions == {1, 2}, name
