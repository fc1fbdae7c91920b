"""Soft targets for the ranking loss, as its `smoothing`: three schemes that share one name.

Smoothing `a` is the share of the target that goes to the rejected side, so the ranking loss aims at
`p(chosen > rejected) = 1 - a`, has its optimum at a difference of `ln((1 - a) / a)`, and the
entropy of `a` as its floor: losses of two schemes cannot be compared. Accuracy can, on hard labels.

`smooth_all` and `smooth_negative` doubt a label and keep its direction, so `a` stays below .5: at
.5 the pair teaches nothing, above it the reverse. `from_strength` replaces the label by what an
ensemble believes, so `a` above .5 is right there: the target of a pair that the ensemble
contradicts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.checks import check_floating, check_positive


def smooth_all(strength: Tensor, alpha: float) -> Tensor:
    """The same smoothing for every pair (arXiv 2401.06080, Eq. 5): `a = alpha`.

    Args:
        strength: mean strength of each pair, shape [B]; only its shape, dtype and device count.
        alpha: in [0, .5); .2 in the paper's figures.

    Returns:
        Smoothing, shape [B].

    Raises:
        ValueError: the strength is not floating point of shape [B].
        InvalidInputError: alpha outside [0, .5), or a strength that is not finite.
    """
    _check(strength, alpha)
    return torch.full_like(strength, alpha)


def smooth_negative(strength: Tensor, alpha: float) -> Tensor:
    """Smoothing where the ensemble contradicts the label (2401.06080, section 2.5).

    `a = alpha` for a strength below 0, else 0.

    Args:
        strength: mean strength of each pair, positive where the label agrees, shape [B].
        alpha: in [0, .5).

    Returns:
        Smoothing, shape [B].

    Raises:
        ValueError: the strength is not floating point of shape [B].
        InvalidInputError: alpha outside [0, .5), or a strength that is not finite.
    """
    _check(strength, alpha)
    return (strength < 0).to(strength.dtype) * alpha


def from_strength(strength: Tensor, scale: float = 1.0) -> Tensor:
    """The ensemble's belief instead of the label (figure 8 of 2401.06080 fits scales near 1.5).

        strength [B]:     a = 1 - sigmoid(T mean)
        strength [B, M]:  a = 1 - (1/M) sum_m sigmoid(T d_m)

    Args:
        strength: mean strength of each pair, shape [B], or the score differences of all M members,
            shape [B, M]; positive where they agree with the label.
        scale: T > 0, sharper as it grows: the inverse of a calibration temperature.

    Returns:
        Smoothing, shape [B], in [0, 1]; above .5 where the ensemble contradicts the label.

    Raises:
        ValueError: the strength is not floating point of shape [B] or [B, M] with M > 0.
        InvalidInputError: a scale not above 0, or a strength that is not finite.
    """
    if strength.ndim not in (1, 2) or strength.shape[1:] == (0,):
        raise ValueError(f"strength of shape [B] or [B, M] is needed, not {list(strength.shape)}")
    _check_finite(strength)
    check_positive("scale", scale)
    against = torch.sigmoid(-scale * strength.detach())
    return against.mean(dim=1) if against.ndim == 2 else against


def _check(strength: Tensor, alpha: float) -> None:
    if strength.ndim != 1:
        raise ValueError(f"strength of shape [B] is needed, not {list(strength.shape)}")
    _check_finite(strength)
    if not 0 <= alpha < 0.5:
        raise InvalidInputError(
            f"alpha must be in [0, .5), not {alpha}: from .5 on the label says nothing or the "
            "reverse"
        )


def _check_finite(strength: Tensor) -> None:
    check_floating("strength", strength)
    if not strength.isfinite().all():
        raise InvalidInputError("strength must be finite for every pair")
