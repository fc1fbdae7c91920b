"""SimCSE: an item must find its own second view among those of all items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from assay.objectives.checks import check_positive, full_precision
from assay.objectives.views import check_views


def simcse_loss(
    first: Tensor,
    second: Tensor,
    *,
    tau: float = 0.05,
    training: bool = True,
) -> Tensor:
    """Contrast of two dropout views (arXiv 2401.06080, Eq. 9; arXiv 2104.08821, Eq. 1).

        l_i = -log( exp(cos(s_i, t_i) / tau) / sum_j exp(cos(s_i, t_j) / tau) ),  j = i included

    `ln N` where all items look alike. Negatives are the other items of this rank's batch.

    Args:
        first: s, the items under one dropout mask, shape [N, D], N > 0, floating point.
        second: t, the same items under another, the same shape.
        tau: temperature, > 0. The paper gives none; .05 is SimCSE's own.
        training: refuse views that coincide, which mean that no dropout is active.

    Returns:
        Mean over items, shape [], computed in float32 or wider whatever the autocast.

    Raises:
        ValueError: shapes differ, are not [N, D] with N > 0, or are not floating point.
        InvalidInputError: tau is not above 0.
        StartupError: the views coincide in training.
    """
    check_views(first, second, training)
    check_positive("tau", tau)
    with torch.autocast(first.device.type, enabled=False):
        first = normalize(full_precision(first), dim=1)
        second = normalize(full_precision(second), dim=1)
        return cross_entropy(first @ second.T / tau, torch.arange(len(first), device=first.device))
