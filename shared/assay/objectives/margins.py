"""Margins for the ranking loss: from an ensemble's strength, or from the batch itself.

All are constants of the step, shape [B], and go inside the sigmoid. A batch margin with a gradient
would only shrink the spread of the differences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributed

from assay.errors import InvalidInputError
from assay.objectives.checks import check_floating, check_per_pair, full_precision


def adaptive_margin(
    strength: Tensor,
    flipped: Tensor | None = None,
) -> Tensor:
    """Margin of each pair from its preference strength (arXiv 2401.06080, Eq. 6).

    `m = mean`, raw and signed; `m = -mean` for a pair whose label was flipped, because its strength
    was measured against the label before.

    Args:
        strength: mean strength, positive where the ensemble agrees with the label as it was
            measured, shape [B].
        flipped: True where chosen and rejected changed sides since, shape [B], bool; None = none.
            Tables that re-sign their strength on a flip need none.

    Returns:
        Shape [B].

    Raises:
        ValueError: shapes are not [B], or the dtypes are wrong.
        InvalidInputError: a strength is not finite.
    """
    margin = _constant("strength", strength)
    if not margin.isfinite().all():
        raise InvalidInputError("strength must be finite for every pair")
    if flipped is None:
        return margin
    check_per_pair("flipped", flipped, len(margin))
    if flipped.dtype != torch.bool:
        raise ValueError(f"flipped must be bool, not {flipped.dtype}")
    return torch.where(flipped, -margin, margin)


def batch_mean(differences: Tensor, *, cap: float = 1.0) -> Tensor:
    """One margin for all pairs: the mean difference of the batch, over all ranks.

    `m = min(max(mean_i d_i, 0), cap)`, a reconstruction of 2404.04932 ("Eq. 4"), whose exact text
    was not available. The mean is negative early and on noisy batches, where a margin would excuse
    wrong pairs; without a cap every pair keeps half of its gradient and scores grow without end.

    Every rank of the default process group must call it in the same step.

    Args:
        differences: scores of chosen minus rejected on this rank, shape [B]; B may differ
            between ranks.
        cap: largest margin, > 0, in units of the score; infinity = no limit.

    Returns:
        Shape [B], detached, at least float32; NaN if a difference is.

    Raises:
        ValueError: the differences are not floating point of shape [B].
        InvalidInputError: the cap is not above 0.
    """
    if not cap > 0:
        raise InvalidInputError(f"cap must be above 0, not {cap}")
    differences = full_precision(_constant("differences", differences))
    return _mean_over_ranks(differences).clamp(0.0, cap).expand(len(differences))


def batch_threshold(
    differences: Tensor,
    *,
    threshold: float | None = None,
    cap: float = 1.0,
) -> Tensor:
    """The margin of `batch_mean` for the pairs below a threshold, 0 for the others.

    `m_i = mu if d_i < tau else 0`, a reconstruction of 2404.04932 ("Eq. 5"), whose exact text was
    not available.

    Args:
        differences: as in `batch_mean`.
        threshold: tau, in units of the score; None = mu itself, so that a pair which clears the
            margin pays none. Infinity gives `batch_mean`, minus infinity no margin.
        cap: as in `batch_mean`.

    Returns:
        Shape [B], detached, at least float32.

    Raises:
        ValueError: the differences are not floating point of shape [B].
        InvalidInputError: the cap is not above 0, or the threshold is NaN.
    """
    if threshold is not None and math.isnan(threshold):
        raise InvalidInputError("threshold must be a number, not NaN")
    margin = batch_mean(differences, cap=cap)
    below = full_precision(differences.detach()) < (margin if threshold is None else threshold)
    return torch.where(below, margin, 0.0)


def _constant(name: str, values: Tensor) -> Tensor:
    if values.ndim != 1:
        raise ValueError(f"{name} of shape [B] is needed, not {list(values.shape)}")
    check_floating(name, values)
    return values.detach()


def _mean_over_ranks(values: Tensor) -> Tensor:
    sum_and_count = torch.stack([values.sum(), values.new_tensor(len(values))])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sum_and_count)
    return sum_and_count[0] / sum_and_count[1].clamp(min=1)
