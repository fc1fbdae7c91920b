"""Contrastive rewards: how much better than the baseline (arXiv 2403.07708; sigmoid: 2502.18770).

Each member subtracts its own baseline before members are aggregated: an offset that a member has
for a prompt cancels, which it would not the other way round.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.rewards.strength import sigmoid

Values = NDArray[np.float64]
Statistic = Literal["mean", "median"]
Shape = Literal["none", "sigmoid"]


def contrastive(
    scores: Values, baselines: Values, statistic: Statistic = "mean", shape: Shape = "none"
) -> Values:
    """Reward of each completion over the baselines of its prompt, per member.

        none:     r_im = s_im - stat_j b_jm
        sigmoid:  r_im = stat_j sigmoid(s_im - b_jm), in (0, 1)

    Args:
        scores: of the completions, shape [completions, members].
        baselines: of the baseline completions, shape [baselines, members], at least one.
        statistic: mean or median over the baselines.
        shape: which of the two.

    Returns:
        Shape [completions, members].
    """
    if shape == "none":
        return scores - reduce(baselines, statistic)
    # Row by row: all at once takes memory for every completion with every baseline.
    return np.stack([reduce(sigmoid(row - baselines), statistic) for row in scores])


def leave_one_out(scores: Values, statistic: Statistic = "mean", shape: Shape = "none") -> Values:
    """Reward of each completion over the other completions of its group, per member.

    Args:
        scores: shape [completions, members], two completions or more; no completion enters its
            own baseline.
        statistic: as in `contrastive`.
        shape: as in `contrastive`.

    Returns:
        Shape [completions, members].
    """
    rows = [
        contrastive(scores[[i]], np.delete(scores, i, axis=0), statistic, shape)
        for i in range(len(scores))
    ]
    return np.concatenate(rows)


def reduce(values: Values, statistic: Statistic) -> Values:
    """Mean or median over the first axis."""
    result: Values = values.mean(axis=0) if statistic == "mean" else np.median(values, axis=0)
    return result
