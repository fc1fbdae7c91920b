"""verifiers' own tasks against a server: run by the Python of its environment.

Arguments: base URL, kind (`nemo_gym` = its resources-server task, `reward` = the integration),
completions as JSON. Prints rewards and metrics of each trace as JSON; or the error's text.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import verifiers.v1 as vf
from rounds import rounds  # type: ignore[import-not-found]  # it lies beside this script
from verifiers.v1.tasksets.nemo_gym.taskset import NeMoGymData, NeMoGymTask, NeMoGymTaskConfig
from verifiers.v1.tasksets.nemo_gym.toolset import NeMoGymState
from verifiers.v1.trace import AgentInfo, TraceTask

from assay.integrations.verifiers import make_reward

PROMPT = "What is 2 + 2?"
ROW = {"responses_create_params": {"input": [{"role": "user", "content": PROMPT}]}, "id": 3}


class Question(vf.Task):  # type: ignore[misc]  # verifiers is not installed here
    """A task whose only reward is the server's."""

    assay = make_reward(weight=2.0)


def make_task(kind: str, url: str) -> vf.Task:
    if kind == "reward":
        return Question(vf.TaskData(prompt=PROMPT))
    return NeMoGymTask(NeMoGymData(prompt=PROMPT, row=ROW), NeMoGymTaskConfig(resources_url=url))


def make_trace(task: vf.Task, completion: str) -> vf.Trace:
    messages = [vf.UserMessage(content=PROMPT), vf.AssistantMessage(content=completion)]
    nodes = [
        vf.MessageNode(message=messages[0]),
        vf.MessageNode(message=messages[1], parent=0, sampled=True),
    ]
    return vf.Trace(
        task=TraceTask(type=type(task).__name__, data=task.data, key=task.key),
        agent=AgentInfo(config=vf.AgentConfig()),
        nodes=nodes,
        state=NeMoGymState(),
    )


async def score(kind: str, url: str, completion: str) -> dict[str, Any]:
    task = make_task(kind, url)
    trace = make_trace(task, completion)
    await task.setup(trace, None)
    await task.score(trace)
    (reward,) = trace.rewards.values()
    return {"score": reward.score, "reward": trace.reward, "metrics": trace.metrics}


async def main(url: str, kind: str, completions: list[str]) -> None:
    async def ask() -> list[dict[str, Any]]:
        return await asyncio.gather(*(score(kind, url, text) for text in completions))

    try:
        await rounds(ask)
    except vf.TaskError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
