"""Replies of the routes that move the serving version: promote, rollback, and how it goes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assay.schemas.base import Outbound

SwapWhen = Literal["quiet", "now"]


class PromotionReply(Outbound):
    """One promotion or rollback, as far as it has come."""

    id: str = Field(description="For `GET /v1/promotions/ID`.")
    model: str = Field(description="The version that is to serve: `name@7`.")
    kind: Literal["promote", "rollback"]
    by: Literal["person", "trainer"]
    swap_when: SwapWhen = Field(description="`quiet`: between groups; `now`: at once.")
    state: Literal["prepare", "wait", "hold", "flip", "done", "refused"] = Field(
        description="`prepare`: every replica loads it; `wait`: for quiet; `hold`: score requests "
        "wait; `flip`: replicas switch; `done`, or `refused` for the reason given."
    )
    reason: str | None = Field(default=None, description="Why it was refused.")
    epoch: int = Field(description="The switch's number, which grows with each.")
    created: float = Field(description="Unix time at which it was asked for.")
    replicas: list[str] = Field(description="The replicas that take part.")
