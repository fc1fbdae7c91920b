"""What cells of label noise hold."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reproduction.cells import Cell


class Detection(BaseModel):
    """What each detector says of each pair of a training part, under its noisy label.

    Positive = agrees with the label. Lists have a number per pair.
    """

    model_config = ConfigDict(frozen=True)

    roots: list[str]
    flipped: list[int] = Field(description="1 where the label was turned round.")
    differences: list[list[float]] = Field(description="Of each cross-fitted member.")
    log_length: list[float] = Field(description="log(characters of chosen / of rejected).")
    pair_graph: list[float] = Field(description="By the labels of the other pairs alone.")


class Recovery(BaseModel):
    """How the models by one recipe rank pairs of roots that they never saw."""

    model_config = ConfigDict(frozen=True)

    train_pairs: int
    roots: list[str]
    pairs: list[int] = Field(description="Per root.")
    right: list[list[float]] = Field(description="Clean labels, per model and root; ties half.")
    right_noisy: list[list[float]] = Field(description="The same by noisy labels.")


NoiseCell: TypeAlias = Cell[Detection | Recovery]
