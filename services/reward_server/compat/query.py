"""The query of a compatible route: which value is the reward, and what goes to the tap.

* `score`: the mean over members, as `POST /v1/score` gives it.
* `lcb`: mean - lcb_k * std.
* `contrastive`: the score over the stored baselines of the prompt, as `POST /v1/contrastive`
  gives it; with `lcb_k` its lower bound. A missing baseline is 503.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from assay.schemas.base import Inbound
from assay.schemas.scoring import ContrastiveOptions
from assay.schemas.validation import invalid_input
from reward_server.settings import RewardMode

if TYPE_CHECKING:
    from fastapi import Request

_HEADERS = {"tap_policy": "x-assay-policy", "tap_step": "x-assay-step"}


class RewardOptions(ContrastiveOptions):
    """How scores become rewards."""

    reward: RewardMode


class Asked(Inbound):
    """What may stand there. All else is refused: a typo in `reward` would train on another one."""

    reward: RewardMode | None = Field(default=None, description="None = the setting `reward`.")
    lcb_k: float | None = Field(default=None, ge=0.0, le=100.0, description="None = 1 for `lcb`.")
    policy: str | None = Field(
        default=None, min_length=1, max_length=256, description="Whose stored baselines to use."
    )
    statistic: Literal["mean", "median"] = "mean"
    tap_policy: str | None = Field(
        default=None, min_length=1, max_length=256, description="Like the header X-Assay-Policy."
    )
    tap_step: int | None = Field(
        default=None, ge=0, le=2**53, description="Like the header X-Assay-Step."
    )

    def options(self, default: RewardMode, pin: str | None) -> RewardOptions:
        """What it comes to, where the server's own choice is `default`."""
        reward = self.reward or default
        is_lower = reward == "lcb" or (reward == "contrastive" and self.lcb_k is not None)
        return RewardOptions(
            reward=reward,
            model=pin,
            aggregate="lcb" if is_lower else "mean",
            lcb_k=1.0 if self.lcb_k is None else self.lcb_k,
            policy=self.policy,
            statistic=self.statistic,
        )


# For the OpenAPI document of a route: `openapi_extra`.
PARAMETERS: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in Asked.model_json_schema()["properties"].items()
    ]
}


def read_query(request: Request, own: Collection[str] = ()) -> Asked:
    """The query without a route's own parameters, and what headers say of the tap.

    Raises:
        InvalidInputError: a parameter is wrong or unknown; it is named.
    """
    given = {
        name: request.headers[header]
        for name, header in _HEADERS.items()
        if header in request.headers
    }
    given |= {name: text for name, text in request.query_params.items() if name not in own}
    given.pop("model", None)  # a pin, which the Gateway has read
    try:
        return Asked.model_validate(given)
    except ValidationError as error:
        faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]
        raise invalid_input(faults) from None
