"""OpenRLHF's remote reward model: `POST /get_reward`, `--remote_rm_url http://HOST:PORT/get_reward`.

`query` is prompt and answer decoded with special tokens, and `prompts` says where the answer
begins. In the reply `rewards` is the reward, and `scores`, which OpenRLHF filters samples by, is
sigmoid(score / T) in (0, 1), with T of the calibration. `extra_logs` holds numbers, of the same
names for all samples of a run: `assay_score`, `assay_std` (of an ensemble), `assay_version`,
`assay_truncated` (0 or 1) and, on a server with Redis and without composite, `assay_baselines`,
the number of stored baselines, with `assay_contrastive`, which means nothing where that is 0.

A text without a score is a 503: the client tries five times, and the sample's reward is None.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from assay.schemas.base import Inbound, Outbound, example
from reward_server.compat.baselines import offers_contrastive
from reward_server.compat.core import Input, answer
from reward_server.compat.errors import describe
from reward_server.compat.query import PARAMETERS
from reward_server.compat.values import Gain, Value
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute

router = APIRouter(route_class=StrictJSONRoute, tags=["compatible"])


class RewardRequest(Inbound):
    """`POST /get_reward`."""

    model_config = example(
        query=["What is the capital of France? Paris."],
        prompts=["What is the capital of France?"],
        labels=[None],
    )

    query: Annotated[list[str], Field(fail_fast=True)] = Field(description="Prompt and answer.")
    prompts: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        default=None, description="The prompts alone; None = each query is split by its template."
    )
    labels: list[Any] | None = Field(default=None, description="For rules.")

    @model_validator(mode="after")
    def _one_per_query(self) -> RewardRequest:
        for name in ("prompts", "labels"):
            values = getattr(self, name)
            if values and len(values) != len(self.query):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.query)} queries")
        return self


class RewardReply(Outbound):
    """One entry per query in each list."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


@router.post("/get_reward", responses=describe("plain"), openapi_extra=PARAMETERS)
async def get_reward(body: RewardRequest, request: Request, runtime: RuntimeDep) -> RewardReply:
    """Rewards as OpenRLHF's trainer asks for them."""
    inputs = [
        Input(
            path=f"query[{index}]",
            text=query,
            prompt=body.prompts[index] if body.prompts else None,
            label=body.labels[index] if body.labels else None,
        )
        for index, query in enumerate(body.query)
    ]
    answered = await answer(runtime, request, inputs, with_contrastive=True)
    values = answered.values()
    return RewardReply(
        rewards=[value.reward for value in values],
        scores=[value.probability for value in values],
        extra_logs={
            "assay_score": [value.score for value in values],
            "assay_version": [float(answered.version) for _ in values],
            "assay_truncated": [float(output.truncated) for output in answered.outputs],
            **_std(values),
            **(_gains(values) if offers_contrastive(runtime) else {}),
        },
    )


def _std(values: list[Value]) -> dict[str, list[float]]:
    stds = [value.std for value in values if value.std is not None]
    return {"assay_std": stds} if stds else {}


def _gains(values: list[Value]) -> dict[str, list[float]]:
    gains = [value.gain or Gain(0.0, 0) for value in values]
    return {
        "assay_baselines": [float(gain.baselines) for gain in gains],
        "assay_contrastive": [gain.reward for gain in gains],
    }
