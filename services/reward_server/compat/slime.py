"""slime's remote reward: `POST /rm`, `--rm-type remote_rm --rm-url http://HOST:PORT/rm`.

The reply is the reward, a bare number. With `?reply=object` in the URL and `--reward-key reward` it
is an object that also holds `score`, `std`, `version`, `truncated`, and `contrastive` where a
baseline is stored.

A text without a score is a 503, which the client tries ten times before it fails the sample.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from assay.schemas.base import Inbound, Outbound, example
from assay.schemas.text import Prompt
from reward_server.compat.core import Input, answer
from reward_server.compat.errors import describe
from reward_server.compat.query import PARAMETERS
from reward_server.routes.dependencies import RuntimeDep, StrictJSONRoute

router = APIRouter(route_class=StrictJSONRoute, tags=["compatible"])


class Sample(Inbound):
    """`POST /rm`."""

    model_config = example(prompt="What is the capital of France?", response="Paris.", label=None)

    prompt: Prompt
    response: str
    label: Any = None


class DetailedReward(Outbound):
    """The reward and what else is known of the sample; null = it is not."""

    reward: float
    score: float
    std: float | None
    contrastive: float | None
    version: int
    truncated: bool


@router.post("/rm", responses=describe("plain"), openapi_extra=PARAMETERS)
async def rm(
    body: Sample,
    request: Request,
    runtime: RuntimeDep,
    reply: Annotated[Literal["number", "object"], Query()] = "number",
) -> float | DetailedReward:
    """One reward as slime's rollout asks for it."""
    entry = Input("response", prompt=body.prompt, completion=body.response, label=body.label)
    is_object = reply == "object"
    answered = await answer(runtime, request, [entry], with_contrastive=is_object, own=("reply",))
    (value,), (output,) = answered.values(), answered.outputs
    if not is_object:
        return value.reward
    return DetailedReward(
        reward=value.reward,
        score=value.score,
        std=value.std,
        contrastive=value.gain.reward if value.gain else None,
        version=answered.version,
        truncated=output.truncated,
    )
