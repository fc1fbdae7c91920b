"""Contrastive learning beside the ranking loss: `L = L_rank + beta L_contrastive`.

`L_rank` is taken over both views (arXiv 2401.06080, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.checks import check_positive
from assay.objectives.simcse import simcse_loss
from assay.objectives.swav import swav_loss
from assay.objectives.views import difference_items, pair_items

Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ContrastiveOptions:
    """Which contrastive term is added, and how strongly.

    Args:
        method: how views are matched.
        items: what is told apart: completions, or differences of the two of a pair.
        beta: weight against the ranking loss, >= 0.
        tau: temperature, > 0.
        prototypes: K of SwAV, >= 2; None for SimCSE.

    Raises:
        InvalidInputError: a number is out of range, or prototypes do not fit the method.
    """

    method: Literal["simcse", "swav"]
    items: Literal["pairs", "differences"]
    beta: float
    tau: float
    prototypes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise InvalidInputError(f"beta must be a finite number >= 0, not {self.beta}")
        check_positive("tau", self.tau)
        if self.method == "swav" and (self.prototypes is None or self.prototypes < 2):
            raise InvalidInputError(f"swav needs 2 prototypes or more, not {self.prototypes}")
        if self.method == "simcse" and self.prototypes is not None:
            raise InvalidInputError("simcse has no prototypes: leave them out")


#: Weights and K of arXiv 2401.06080, appendix B.2. It gives neither a temperature (these are
#: SimCSE's and SwAV's own) nor the weight of simcse-diff (that of simcse).
CONTRASTIVE: Mapping[str, ContrastiveOptions] = MappingProxyType(
    {
        "simcse": ContrastiveOptions("simcse", "pairs", beta=1.0, tau=0.05),
        "swav": ContrastiveOptions("swav", "pairs", beta=0.1, tau=0.1, prototypes=50),
        "simcse-diff": ContrastiveOptions("simcse", "differences", beta=1.0, tau=0.05),
        "swav-diff": ContrastiveOptions("swav", "differences", beta=0.5, tau=0.1, prototypes=20),
    }
)


def contrastive_term(
    first: Pairs,
    second: Pairs,
    options: ContrastiveOptions,
    prototypes: Tensor | None = None,
    *,
    training: bool = True,
) -> Tensor:
    """What is added to the ranking loss of a batch: `beta L_contrastive`.

    Args:
        first: embeddings of chosen and of rejected under one dropout mask, each of shape [B, D].
        second: the same under another mask.
        options: one of `CONTRASTIVE`, or changed by `dataclasses.replace`.
        prototypes: of SwAV, shape [K, D] with the K of the options; None for SimCSE.
        training: refuse views that coincide, which mean that no dropout is active.

    Returns:
        Shape [].

    Raises:
        ValueError: shapes do not fit, or prototypes are missing or not wanted.
        StartupError: the views coincide in training.
    """
    found = None if prototypes is None else len(prototypes)
    if found != options.prototypes:
        raise ValueError(f"{options.prototypes} prototypes are needed, not {found}")
    items = pair_items if options.items == "pairs" else difference_items
    views = items(*first), items(*second)
    if prototypes is None:
        return options.beta * simcse_loss(*views, tau=options.tau, training=training)
    return options.beta * swav_loss(*views, prototypes, tau=options.tau, training=training)
