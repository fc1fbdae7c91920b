"""Choices of the operator as plain data, so that settings can carry them without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

RuleName = Literal["vanilla", "literal", "shared_moments", "joint"]
OptimizerName = Literal["adamw", "sgd"]


class RuleOptions(BaseModel):
    """Which rule, and its numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rule: RuleName = "vanilla"
    optimizer: OptimizerName = "adamw"
    learning_rate: float = Field(default=1e-4, ge=0, description="alpha, of the descent.")
    ascent_rate: float = Field(default=1e-4, ge=0, description="eta, of the ascent of J.")
    ascent: OptimizerName = Field(
        default="sgd",
        description="Optimizer of `literal`'s ascent, with a state of its own; sgd = as printed.",
    )
    joint_weight: float = Field(default=0.5, ge=0, description="lambda: `joint` descends L - l J.")
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(
        default=1.0, gt=0, description="Largest norm of a gradient that the optimizer gets."
    )


class Limits(BaseModel):
    """What a sample may be."""

    model_config = ConfigDict(frozen=True)

    policies: tuple[str, ...] | None
    max_policy_lag: int | None
    max_characters: int
    near_duplicate: float
