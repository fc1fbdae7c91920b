"""The pairwise ranking loss that reward models are trained with."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def ranking_loss(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:  # noqa: N803
    """Negative log-likelihood of each label under Bradley-Terry (arXiv 2401.06080, Eq. 2).

    `loss = -log sigmoid(chosen - rejected)`, so that its derivative by `chosen` is
    `sigmoid(chosen - rejected) - 1`. Written as softplus, which stays finite where sigmoid is 0.

    Args:
        chosen_B: scores of the preferred completions, shape [B], floating point.
        rejected_B: scores of the others, the same shape and dtype.

    Returns:
        The loss of each pair, shape [B]; weighting and averaging are the caller's.

    Raises:
        ValueError: shapes differ, are not [B], or the scores are not floating point.
    """
    if chosen_B.ndim != 1 or chosen_B.shape != rejected_B.shape:
        raise ValueError(f"scores of shape [B] are needed: {chosen_B.shape}, {rejected_B.shape}")
    if not (chosen_B.is_floating_point() and rejected_B.is_floating_point()):
        raise ValueError(f"scores must be floating point: {chosen_B.dtype}, {rejected_B.dtype}")
    return softplus(rejected_B - chosen_B)
