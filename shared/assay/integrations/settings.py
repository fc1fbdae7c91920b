"""What a trainer wants as its reward, and where from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from assay.client.bodies import given
from assay.errors import InvalidInputError
from assay.schemas.boundary import Rules, TemplateName
from assay.schemas.validation import invalid_input
from assay.settings import ClientSettings

RewardMode = Literal["score", "lcb", "contrastive"]


class RewardSettings(ClientSettings):
    """Settings of all integrations, from `ASSAY_*`; explicit arguments win."""

    reward: RewardMode = Field(
        default="score",
        description="`score`; `lcb` = score - lcb_k * std; `contrastive` = over stored baselines.",
    )
    lcb_k: float | None = Field(
        default=None,
        ge=0.0,
        le=100.0,
        description="Standard deviations below; None = 1 for `lcb`, none for `contrastive`.",
    )
    baseline_policy: str | None = Field(
        default=None, min_length=1, max_length=256, description="Whose baselines; None = the only."
    )
    statistic: Literal["mean", "median"] = Field(
        default="mean", description="How the baseline scores of a prompt become one number."
    )
    template: TemplateName = Field(
        default="auto",
        description="Template of full texts: `auto` = recognised, `none` = texts as they are.",
    )
    strip_special_tokens: bool = Field(
        default=True, description="True = padding, BOS and EOS are taken off the ends of texts."
    )
    samples_policy: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Name under which completions are posted to the online trainer; None = not.",
    )
    timeout_s: float = Field(
        default=300.0, gt=0, description="Longest time of one call, retries and waits included."
    )
    retries: int = Field(
        default=5, ge=0, description="How often a request is sent again after a 5xx or no answer."
    )
    connections: int = Field(default=64, gt=0, description="Requests under way at once.")

    @property
    def lcb_k_or_one(self) -> float:
        """Standard deviations of `lcb`."""
        return 1.0 if self.lcb_k is None else self.lcb_k

    @property
    def text_rules(self) -> Rules:
        """How full texts are read."""
        return Rules(self.template, self.strip_special_tokens)


def reward_settings(**changes: Any) -> RewardSettings:
    """Settings from the environment, with the changes that are not None.

    Raises:
        InvalidInputError: one of them is wrong, or unknown.
    """
    known = RewardSettings.model_fields
    try:
        unknown = [name for name in changes if name not in known]
        if unknown:
            names = ", ".join(sorted(known))
            raise InvalidInputError(f"unknown settings: {', '.join(unknown)}; there are {names}")
        return RewardSettings(**given(**changes))
    except ValidationError as error:
        raise invalid_input(error.errors(include_input=False, include_url=False)) from None
