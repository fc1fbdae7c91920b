"""The pairwise ranking loss that reward models are trained with."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from assay.errors import InvalidInputError
from assay.objectives.checks import check_pairs, check_per_pair


def ranking_loss(
    chosen: Tensor,
    rejected: Tensor,
    *,
    margin: Tensor | None = None,
    smoothing: Tensor | None = None,
    centring: float = 0.0,
    reduction: Literal["none", "mean"] = "none",
) -> Tensor:
    """Cross-entropy of each label under Bradley-Terry, with a margin and a soft target per pair.

        z = chosen - rejected - m
        L = (1 - a) softplus(-z) + a softplus(z) + c (chosen + rejected)^2

    Without options `L = -log sigmoid(chosen - rejected)` (arXiv 2401.06080, Eq. 2). `m` is the
    adaptive margin of Eq. 6, `a` the label smoothing of Eq. 5, `c` the centring of 2312.09244.
    By `chosen - rejected` the first two terms have the derivative `sigmoid(z) - (1 - a)`. Written
    as softplus, which stays finite where sigmoid is 0.

    Deviation: Eq. 6 prints the margin outside the logarithm, where it has no gradient. It belongs
    inside the sigmoid.

    Args:
        chosen: scores of the preferred completions, shape [B], floating point.
        rejected: scores of the others, the same shape.
        margin: m, signed, shape [B], without gradient; None = 0. See `assay.objectives.margins`.
        smoothing: a, share of the target that goes to the rejected side, shape [B], in [0, 1];
            above .5 the target is the other order. None = 0. See `assay.objectives.soft_labels`.
        centring: c >= 0, pulls `chosen + rejected` towards 0, which the ranking leaves free.
        reduction: `none` leaves weighting and averaging to the caller.

    Returns:
        The loss of each pair, shape [B], or their mean, shape [], in the widest of the dtypes.

    Raises:
        ValueError: shapes are not [B], scores are not floating point, a margin or smoothing has a
            gradient, or the reduction is unknown.
        InvalidInputError: smoothing outside [0, 1], or centring not a finite number >= 0.
    """
    check_pairs(chosen, rejected)
    if reduction not in ("none", "mean"):
        raise ValueError(f"reduction is none or mean, not {reduction}")
    if not 0 <= centring < math.inf:
        raise InvalidInputError(f"centring must be a finite number >= 0, not {centring}")
    z = chosen - rejected
    if margin is not None:
        check_per_pair("margin", margin, len(z))
        z = z - margin
    loss = softplus(-z)
    if smoothing is not None:
        _check_smoothing(smoothing, len(z))
        loss = (1 - smoothing) * loss + smoothing * softplus(z)
    if centring:
        loss = loss + centring * (chosen + rejected).square()
    return loss.mean() if reduction == "mean" else loss


def _check_smoothing(smoothing: Tensor, pairs: int) -> None:
    check_per_pair("smoothing", smoothing, pairs)
    if not ((smoothing >= 0) & (smoothing <= 1)).all():
        raise InvalidInputError("smoothing must be in [0, 1] for every pair")
