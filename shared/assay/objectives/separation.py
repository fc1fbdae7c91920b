"""How far a reward model tells completions of one prompt apart, whatever their order."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.objectives.checks import check_floating, full_precision


def separation(scores: Tensor) -> Tensor:
    """J of MetaRM, there called difference loss and maximised (arXiv 2405.00438, Eq. 2).

        J = (2 / k^2) sum_{i<j} sigmoid(|s_i - s_j|)

    It grows with any difference, right or wrong, and adding a number to all scores of a prompt
    leaves it. It lies in [(k-1)/(2k), (k-1)/k), so J of different k cannot be compared:
    `normalised_separation` can. Equal scores give a gradient of 0.

    Args:
        scores: scores of k >= 2 completions to each of P prompts, shape [P, k], floating point.

    Returns:
        J of each prompt, shape [P], float32 or wider; its mean is the paper's objective.

    Raises:
        ValueError: the scores are not floating point of shape [P, k] with k >= 2.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"scores of shape [P, k] with k >= 2 are needed, not {list(scores.shape)}")
    check_floating("scores", scores)
    k = scores.shape[1]
    i, j = torch.triu_indices(k, k, offset=1, device=scores.device)
    scores = full_precision(scores)
    return 2 / k**2 * (scores[:, i] - scores[:, j]).abs().sigmoid().sum(dim=1)


def normalised_separation(scores: Tensor) -> Tensor:
    """J on a scale that does not depend on k: 0 where all scores are equal, towards 1 at most.

    `(J - (k-1)/(2k)) / ((k-1)/k - (k-1)/(2k))`, the mean of `tanh(|s_i - s_j| / 2)` over pairs.

    Args:
        scores: as in `separation`.

    Returns:
        Shape [P], float32 or wider.

    Raises:
        ValueError: as in `separation`.
    """
    values = separation(scores)
    k = scores.shape[1]
    lowest = (k - 1) / (2 * k)
    return (values - lowest) / lowest
