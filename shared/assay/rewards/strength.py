"""Preference strength by an ensemble (arXiv 2401.06080, section 2.2, Eq. 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.schemas.models import Calibration
from assay.schemas.scoring import Action

FLIP_QUANTILE = 0.10
SMOOTH_QUANTILE = 0.40


class Strength(NamedTuple):
    """How strongly an ensemble prefers `chosen` over `rejected`."""

    mean: float
    std: float | None
    votes: int
    probability: float
    quantile: float | None
    action: Action | None


def strength(differences: NDArray[np.float64], calibration: Calibration | None) -> Strength:
    """Strength of one pair.

        mean        = (1/M) sum_m d_m
        std         = sqrt((1/M) sum_m (d_m - mean)^2)      population std, as in the paper
        probability = (1/M) sum_m sigmoid(d_m / T)

    Args:
        differences: score(chosen) - score(rejected) of each member, shape [members].
        calibration: gives T and the quantiles of `mean`; None: T = 1 and no quantile.

    Returns:
        `std`, `quantile` and `action` are None with one member; `quantile` and `action` also
        without calibration or outside its range.
    """
    mean = float(differences.mean())
    one_member = len(differences) == 1
    quantile = None if one_member or calibration is None else _quantile(mean, calibration)
    return Strength(
        mean=mean,
        std=None if one_member else float(differences.std()),
        votes=int((differences > 0).sum()),
        probability=float(posterior(differences, calibration.temperature if calibration else 1.0)),
        quantile=quantile,
        action=None if quantile is None else choose_action(mean, quantile),
    )


def choose_action(mean: float, quantile: float) -> Action:
    """What to do with a pair: flip only what is both among the weakest and preferred reversed."""
    if quantile < FLIP_QUANTILE and mean < 0:
        return "flip"
    return "smooth" if quantile < SMOOTH_QUANTILE else "keep"


def _quantile(mean: float, calibration: Calibration) -> float | None:
    grid = calibration.quantiles
    if not grid[0] <= mean <= grid[-1]:
        return None
    return float(np.interp(mean, grid, np.linspace(0.0, 1.0, len(grid))))


def posterior(differences: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probability that `chosen` is better: `(1/M) sum_m sigmoid(d_m / T)`.

    Args:
        differences: score(chosen) - score(rejected) of each member, shape [..., members].
        temperature: T > 0; above 1 the members are less sure.

    Returns:
        Shape [...].
    """
    return np.asarray(sigmoid(differences / temperature).mean(axis=-1))


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function without overflow."""
    e = np.exp(-np.abs(x))
    result: NDArray[np.float64] = np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))
    return result
