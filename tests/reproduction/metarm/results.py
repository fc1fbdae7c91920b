"""What cells of update rules hold."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reproduction.cells import Cell


class Ranked(BaseModel):
    """How many pairs are ranked right, by topic."""

    model_config = ConfigDict(frozen=True)

    topics: list[str]
    pairs: list[int]
    right: list[float] = Field(description="Ties count half.")


class Separated(BaseModel):
    """How far groups of completions are told apart, sums over the groups of a topic or prompt."""

    model_config = ConfigDict(frozen=True)

    clusters: list[str]
    groups: list[int]
    separation: list[float] = Field(description="Normalised J.")
    difference: list[float] = Field(description="Mean |difference| over the std of all scores.")


class Adapted(BaseModel):
    """A model after steps of an update rule."""

    model_config = ConfigDict(frozen=True)

    train_pairs: int
    shifted: Ranked = Field(description="Pairs of topics that no label was seen of.")
    original: Ranked = Field(description="Other texts of the topics that were trained on.")
    separated: dict[str, Separated] = Field(description="By set of groups.")


AdaptedCell: TypeAlias = Cell[Adapted]
