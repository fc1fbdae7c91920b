"""What a cell keeps."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reproduction.cells import Cell


class Optimised(BaseModel):
    """A policy trained against a proxy, measured on held-out prompts on its way.

    Lists have an entry per measurement; the first is the base policy.
    """

    model_config = ConfigDict(frozen=True)

    prompts: list[str]
    steps: list[int]
    kl: list[float] = Field(description="To the base policy, nats per completion.")
    length: list[float] = Field(description="Tokens, times the base policy's.")
    proxy: list[float] = Field(description="Gain by the proxy, in std of the base policy's.")
    gold: list[list[float]] = Field(description="Mean gold score of each prompt.")
    gold_std: float = Field(description="Of the base policy's completions.")


OptimisedCell: TypeAlias = Cell[Optimised]
