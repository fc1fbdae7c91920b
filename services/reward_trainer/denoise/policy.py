"""Which pairs a policy takes for wrongly labelled, and what it does with them.

flip    swap chosen and rejected                                    arXiv 2401.06080, 2.4.1
smooth  train with the label 1 - alpha instead of 1                 Eq. 5
drop    leave the pair out
margin  train every pair with its strength as margin (not a choice
        of pairs; goes alone or with one of the others)             Eq. 6
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assay.rewards.strength import FLIP_QUANTILE, SMOOTH_QUANTILE, posterior
from reward_trainer.strength.columns import StrengthColumns

Action = Literal["flip", "smooth", "drop", "margin", "flip+margin", "smooth+margin", "drop+margin"]
Criterion = Literal["quantile", "sign", "posterior"]
Mask = NDArray[np.bool_]


class Policy(BaseModel):
    """What to do about labels that an ensemble does not believe."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    action: Action
    by: Criterion = Field(
        default="quantile",
        description="A pair is suspect if its strength is in the dataset's lowest share "
        "(`quantile`), its mean is below 0 (`sign`), or `chosen` is too improbably the better one "
        "(`posterior`: mean over members of sigmoid(d_m / temperature)).",
    )
    below: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="For `quantile` (default .1, to smooth .4) and `posterior` (default .5).",
    )
    smoothing: float = Field(
        default=0.2, gt=0, lt=0.5, description="alpha: the loss takes 1 - alpha for the label."
    )
    temperature: float = Field(default=1.0, gt=0, description="T of the posterior.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.below is not None and self.action == "margin":
            raise ValueError("margin is for every pair: leave out below, or add another action")
        if self.below is not None and self.by == "sign":
            raise ValueError("by sign, the limit is 0: leave out below, or choose by quantile")
        return self

    @property
    def choice(self) -> str:
        """What is done with suspect pairs: flip, smooth, drop, or margin alone."""
        return self.action.partition("+")[0]

    @property
    def has_margin(self) -> bool:
        """Whether every pair gets a margin."""
        return self.action.endswith("margin")

    @property
    def limit(self) -> float:
        """Suspect is what is strictly below."""
        if self.below is not None:
            return self.below
        if self.by == "posterior":
            return 0.5
        return SMOOTH_QUANTILE if self.choice == "smooth" else FLIP_QUANTILE

    def __str__(self) -> str:
        if self.choice == "margin":
            return self.action
        how = f" {self.smoothing:g}" if self.choice == "smooth" else ""
        limit = "sign" if self.by == "sign" else f"{self.by} < {self.limit:g}"
        unit = f" at T {self.temperature:g}" if self.by == "posterior" else ""
        return f"{self.action}{how}, {limit}{unit}"

    def suspects(self, strength: StrengthColumns) -> Mask:
        """The pairs to flip, smooth or drop, shape [rows].

        Only pairs whose mean is below 0 are flipped, whatever the criterion: the others' ensemble
        agrees with the label.
        """
        if self.choice == "margin":
            return np.zeros(len(strength.mean), dtype=bool)
        negative: Mask = strength.mean < 0
        if self.by == "sign":
            return negative
        chances = posterior(strength.differences, self.temperature)
        low: Mask = (strength.quantile if self.by == "quantile" else chances) < self.limit
        return low & negative if self.choice == "flip" else low
