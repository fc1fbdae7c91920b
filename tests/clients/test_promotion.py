"""64 requests of each client at once, while a new version takes over: none fails, none is mixed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from huggingface_hub import AsyncInferenceClient
from transformers import PreTrainedTokenizerBase

from assay.integrations.trl import AsyncAssayReward
from fleet import LATE_S, NAME, Replica, eventually, fleet, offline, publish
from real_clients import openrlhf_agent, own_python, verl, verl_config, verl_data
from redis_server import RedisServer
from toy import toy_scores

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CALLERS = 64
Call = Callable[[str], Awaitable[float]]
Make = Callable[[str], AbstractAsyncContextManager[Call]]


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The app, which runs already, on a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def openrlhf_client(address: str) -> AsyncIterator[Call]:
    executor = openrlhf_agent().SingleTurnAgentExecutor(f"http://{address}/get_reward")

    async def call(prompt: str) -> float:
        (reply,) = await executor._fetch_rewards_via_http([f"{prompt}c"], [prompt], [None])
        return float(reply["rewards"][0])

    yield call


def verl_client(policy: Path, tokenizer: PreTrainedTokenizerBase) -> Make:
    model = {"enable": True, "model_path": str(policy), "rollout": {"name": "vllm"}}

    @asynccontextmanager
    async def make(address: str) -> AsyncIterator[Call]:
        loop = verl("verl.experimental.reward_loop.reward_loop")
        worker = loop.RewardLoopWorker(verl_config(policy, reward_model=model), address)

        async def call(prompt: str) -> float:
            messages = [{"role": "user", "content": prompt}]
            reply = await worker.compute_score(verl_data(tokenizer, messages, "c"))
            return float(reply["reward_score"])

        yield call

    return make


@asynccontextmanager
async def trl_client(address: str) -> AsyncIterator[Call]:
    reward = AsyncAssayReward(url=f"http://{address}")

    async def call(prompt: str) -> float:
        (value,) = await reward([prompt], ["c"])
        assert value is not None
        return value

    yield call
    await reward.aclose()


@asynccontextmanager
async def huggingface_client(address: str) -> AsyncIterator[Call]:
    client = AsyncInferenceClient(model=f"http://{address}/predict")

    async def call(prompt: str) -> float:
        result: Any = await client.text_classification(f"{as_messages(prompt)}c")
        return float(result.score)

    yield call
    await client.close()  # type: ignore[no-untyped-call]


def as_messages(prompt: str) -> str:
    """A prompt as the toy reads it, where it came as a chat message."""
    return f"\n\nHuman: {prompt}\n\nAssistant:"


class Callers:
    """64 at once ask without a pause, in a thread and an event loop of their own."""

    def __init__(self, make: Make, address: str) -> None:
        self.answers: list[tuple[str, float]] = []
        self._stop = threading.Event()
        self._make, self._address = make, address

    def run(self) -> None:
        """Until they are stopped; an error of one ends them all."""
        asyncio.run(self._run())

    def stop(self) -> None:
        self._stop.set()

    async def _run(self) -> None:
        async with self._make(self._address) as call, asyncio.TaskGroup() as tasks:
            for caller in range(CALLERS):
                tasks.create_task(self._ask(call, caller))

    async def _ask(self, call: Call, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            prompt = f"{caller}.{number}"
            self.answers.append((prompt, await call(prompt)))


async def promote(replica: Replica, version: int) -> None:
    path = f"/v1/models/{NAME}@{version}/promote"
    done = await replica.http.post(path, params={"wait_s": LATE_S, "swap_when": "now"})
    assert done.status_code == 200, done.text


async def promoted_under(callers: Callers, replica: Replica, version: int) -> None:
    """They ask; in the middle a version takes over."""
    running = asyncio.create_task(asyncio.to_thread(callers.run))
    try:
        await more_answers(callers, running)
        await promote(replica, version)
        await more_answers(callers, running)
    finally:
        callers.stop()
        await running


async def more_answers(callers: Callers, running: asyncio.Task[None]) -> None:
    """Twice as many as there are callers, so that some were asked after now."""
    enough = len(callers.answers) + 2 * CALLERS

    async def answered() -> bool:
        return running.done() or len(callers.answers) >= enough

    await eventually(answered, "answers", 60.0)


async def test_no_client_fails_and_every_score_is_its_versions(
    redis_server: RedisServer, tmp_path: Path, policy: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    clients: dict[str, Make] = {
        "openrlhf": openrlhf_client,
        "verl": verl_client(policy, tokenizer),
        "trl": trl_client,
        "huggingface_hub": huggingface_client,
    }
    spelled_out = {"verl", "huggingface_hub"}
    async with fleet(redis_server, tmp_path, compat_any_model=True) as replicas:
        publish(replicas.store, 5)
        replica = await replicas.add()
        async with listening(replica.app) as address:
            for before, (name, make) in enumerate(clients.items(), start=1):
                callers = Callers(make, address)
                await promoted_under(callers, replica, before + 1)
                spelled = as_messages if name in spelled_out else str
                versions = {
                    version_of(spelled(prompt), score, (before, before + 1))
                    for prompt, score in callers.answers
                }
                assert versions == {before, before + 1}, name


def version_of(prompt: str, score: float, versions: tuple[int, ...]) -> int:
    """Whose score it is."""
    by_version = {version: offline(version, prompt, "c") for version in versions}
    (version,) = (v for v, value in by_version.items() if abs(value - score) < 1e-5)
    return version


QUESTION = "What is 2 + 2?"
ANSWERS = [f"answer {number}" for number in range(CALLERS)]
MATCH = ["It is 4.", "Four."]


@pytest.mark.own_environment
async def test_nor_does_one_that_has_an_environment_of_its_own(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with fleet(redis_server, tmp_path) as replicas:
        replica = await replicas.add()
        async with listening(replica.app) as address:
            url = f"http://{address}"
            for version, kind in ((2, "nemo_gym"), (3, "reward")):
                call = ("verifiers", "nemo_gym_task.py", url, kind, json.dumps(ANSWERS))
                rounds = await driven_across(replica, version, url, *call)
                results = [*zip(ANSWERS * len(rounds), sum(rounds, []), strict=True)]
                for answer, result in results:
                    scored_by = int(result["metrics"]["assay_version"])
                    expected = offline(scored_by, as_messages(QUESTION), answer)
                    assert result["score"] == pytest.approx(expected, abs=1e-5)
                seen = {result["metrics"]["assay_version"] for _, result in results}
                assert seen == {version - 1, version}, kind
            pair = ("tinker", "preference_builder.py", json.dumps(MATCH))
            rounds = await driven_across(replica, 4, url, *pair)
    # The toy's versions differ by as much for every text: their preferences are the same.
    better, worse = (toy_scores(f"{as_messages(QUESTION)}{text}".encode(), 3) for text in MATCH)
    gaps = [a - b for a, b in zip(better, worse, strict=True)]
    first = statistics.mean(math.tanh(gap / (2 * 2.0)) for gap in gaps)  # T of the toy is 2
    for rewards in rounds:
        assert rewards == pytest.approx([first, -first], abs=1e-5)


async def driven_across(
    replica: Replica, version: int, url: str, client: str, driver: str, *arguments: str
) -> list[Any]:
    """What a driver prints, round by round, while a version takes over."""
    process = await asyncio.create_subprocess_exec(
        own_python(client),
        Path(__file__).parent / "drivers" / driver,
        *arguments,
        "--go-on",
        env={**os.environ, "ASSAY_URL": url},  # noqa: TID251 - a child's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    first = await process.stdout.readline()
    await promote(replica, version)
    after = [await process.stdout.readline() for _ in range(3)]
    rest, _ = await process.communicate(b"")  # which ends its input, and with that its rounds
    assert process.returncode == 0
    return [json.loads(line) for line in (first, *after, *rest.splitlines())]
