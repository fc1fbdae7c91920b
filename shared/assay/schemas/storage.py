"""Requests and replies of the routes that store: baselines and samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assay.schemas.base import Inbound, Outbound, example
from assay.schemas.text import Completion, Prompt

_PROMPT = "What is the capital of France?"
_SAMPLED = {"prompt": _PROMPT, "completions": ["It is Paris.", "I do not know."]}

Policy = Annotated[str, Field(min_length=1, max_length=256, description="Name of the policy.")]


class BaselineSet(Inbound):
    """The baseline completions of one prompt by one policy; replaces what was there."""

    prompt: Prompt
    completions: list[Completion] = Field(min_length=1, fail_fast=True)
    policy: Policy


class PutBaselinesRequest(Inbound):
    """`PUT /v1/baselines`."""

    model_config = example(items=[{**_SAMPLED, "policy": "sft"}])

    items: list[BaselineSet] = Field(min_length=1, fail_fast=True)


class PutBaselinesResponse(Outbound):
    """Reply of `PUT /v1/baselines`."""

    stored: int = Field(description="Sets that were stored.")


class BaselineQuery(Inbound):
    """`POST /v1/baselines/lookup` and `/v1/baselines/delete`."""

    model_config = example(prompt=_PROMPT, policy="sft")

    prompt: Prompt
    policy: Policy | None = Field(default=None, description="None = every policy.")


class StoredBaselines(Outbound):
    """The stored completions of one policy."""

    policy: str
    completions: list[Completion]


class LookupBaselinesResponse(Outbound):
    """Reply of `POST /v1/baselines/lookup`."""

    items: list[StoredBaselines]


class DeleteBaselinesResponse(Outbound):
    """Reply of `POST /v1/baselines/delete`."""

    deleted: int = Field(description="Sets that were deleted.")


class Sample(Inbound):
    """Completions of the current policy for one prompt, for the online trainer."""

    prompt: Prompt
    completions: list[Completion] = Field(min_length=1, fail_fast=True)
    policy: Policy
    step: int | None = Field(default=None, ge=0, le=2**53, description="Step of that policy.")
    group: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Joins completions that arrive apart. None = prompt, policy and step.",
    )


class PostSamplesRequest(Inbound):
    """`POST /v1/samples`."""

    model_config = example(items=[{**_SAMPLED, "policy": "ppo", "step": 120}])

    items: list[Sample] = Field(min_length=1, fail_fast=True)


class PostSamplesResponse(Outbound):
    """Reply of `POST /v1/samples`."""

    accepted: int
    ids: list[str] = Field(description="Stream ids, in the order of the items.")
