"""SwAV: the prototypes that one view is assigned to must be predicted from the other."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import log_softmax, normalize

from assay.objectives.checks import check_floating, check_positive, full_precision
from assay.objectives.views import check_views


def swav_loss(
    first: Tensor,
    second: Tensor,
    prototypes: Tensor,
    *,
    tau: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    training: bool = True,
) -> Tensor:
    """Swapped prediction of two dropout views (arXiv 2401.06080, Eq. 7-8; arXiv 2006.09882).

        l = -sum_k q_s^k log p_t^k - sum_k q_t^k log p_s^k,   p^k = softmax_k(h . c_k / tau)

    `h` and `c` have unit length; `q` is `sinkhorn(h . c / epsilon)`, without gradient.
    `2 ln K` where nothing tells the prototypes apart.

    Deviation: SwAV re-normalises its prototypes in place after each step; here they are normalised
    on use, so that their stored length never counts.

    Args:
        first: s, the items under one dropout mask, shape [N, D], N > 0, floating point.
        second: t, the same items under another, the same shape.
        prototypes: c, trained with the model, shape [K, D]; see `random_prototypes`.
        tau: temperature of the prediction, > 0. The paper gives none; .1 is SwAV's own.
        epsilon: temperature of the assignment, > 0.
        iterations: Sinkhorn iterations, > 0.
        training: refuse views that coincide, which mean that no dropout is active.

    Returns:
        Mean over items, shape [], computed in float32 or wider whatever the autocast.

    Raises:
        ValueError: shapes do not fit, or are not floating point.
        InvalidInputError: tau, epsilon or iterations is not above 0.
        StartupError: the views coincide in training.
    """
    check_views(first, second, training)
    _check_prototypes(prototypes, first.shape[1])
    check_positive("tau", tau)
    with torch.autocast(first.device.type, enabled=False):
        first, second = full_precision(first), full_precision(second)
        directions = normalize(prototypes.to(first.dtype), dim=1).T
        s, t = normalize(first, dim=1) @ directions, normalize(second, dim=1) @ directions
        q_s = sinkhorn(s, epsilon=epsilon, iterations=iterations)
        q_t = sinkhorn(t, epsilon=epsilon, iterations=iterations)
        swapped = q_s * log_softmax(t / tau, dim=1) + q_t * log_softmax(s / tau, dim=1)
    return -swapped.sum(dim=1).mean()


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignment of items to prototypes that shares the items out (2006.09882, Eq. 3).

    Starts at `exp(scores / epsilon)`, then gives each prototype the same mass and each item the
    mass 1, in turns. In logarithms, which neither overflow nor vanish.

    Args:
        scores: similarity of items and prototypes, shape [N, K], floating point.
        epsilon: temperature, > 0; smaller is harder.
        iterations: turns, > 0.

    Returns:
        Shape [N, K], float32 or wider, without gradient. Each item sums to 1; each prototype only
        nears N / K.

    Raises:
        ValueError: the scores are not floating point of shape [N, K].
        InvalidInputError: epsilon or iterations is not above 0.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores of shape [N, K] are needed, not {list(scores.shape)}")
    check_floating("scores", scores)
    check_positive("epsilon", epsilon)
    check_positive("iterations", iterations)
    log_q = full_precision(scores) / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


def random_prototypes(count: int, dimensions: int, generator: Generator | None = None) -> Tensor:
    """Prototypes to start from: unit vectors in random directions.

    Args:
        count: K, 50 in arXiv 2401.06080 for pairs and 20 for differences.
        dimensions: D, the size of an embedding.
        generator: source of randomness on the CPU; None = the default one.

    Returns:
        Shape [K, D], float32, for the caller to wrap as a parameter.

    Raises:
        InvalidInputError: a size is not above 0.
    """
    check_positive("count", count)
    check_positive("dimensions", dimensions)
    return normalize(torch.randn(count, dimensions, generator=generator), dim=1)


def _check_prototypes(prototypes: Tensor, dimensions: int) -> None:
    if prototypes.ndim != 2 or prototypes.shape[1] != dimensions or not len(prototypes):
        raise ValueError(
            f"prototypes of shape [K, {dimensions}] are needed, not {list(prototypes.shape)}"
        )
    check_floating("prototypes", prototypes)
