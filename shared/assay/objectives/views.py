"""The items that contrastive learning tells apart, and their two views."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.errors import StartupError
from assay.objectives.checks import check_floating


def pair_items(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Both completions of every pair (arXiv 2401.06080, section 3.1): `f_c` and `f_r`.

    Args:
        chosen: embeddings of the preferred completions, shape [B, D], floating point.
        rejected: embeddings of the others, the same shape.

    Returns:
        Shape [2B, D], all chosen first.

    Raises:
        ValueError: shapes differ, are not [B, D], or the embeddings are not floating point.
    """
    _check_embeddings(chosen, rejected)
    return torch.cat([chosen, rejected])


def difference_items(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Differences of every pair in both orders (the "-diff" variants): `f_c - f_r`, `f_r - f_c`.

    Args, Returns and Raises are those of `pair_items`.
    """
    _check_embeddings(chosen, rejected)
    difference = chosen - rejected
    return torch.cat([difference, -difference])


def check_views(first: Tensor, second: Tensor, training: bool) -> None:
    """Refuse views of different shapes and, in training, views that coincide.

    Raises:
        ValueError: shapes differ, are not [N, D] with N > 0, or are not floating point.
        StartupError: both views are the same although the model is in training.
    """
    _check_embeddings(first, second)
    if not len(first):
        raise ValueError("views of at least one item are needed")
    if training and torch.equal(first, second):
        raise StartupError(
            "the two dropout views of the batch are the same, so contrastive learning has nothing "
            "to match: set a dropout above 0 (0.05 in the paper) and keep the model in train mode"
        )


def _check_embeddings(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            "embeddings of one shape [N, D] are needed, "
            f"not {list(first.shape)} and {list(second.shape)}"
        )
    check_floating("embeddings", first, second)
