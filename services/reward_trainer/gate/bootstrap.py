"""One-sided 95 % bounds by a paired bootstrap that draws whole clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reward_trainer.evaluate.statistics import Array, Roots, divided

_TAIL = 0.05


class Bounds(NamedTuple):
    """A number, and what it is at least and at most, each with 95 % confidence on its own.

    Attributes:
        low: None = fewer than two clusters: nothing to resample.
    """

    value: float
    low: float | None
    high: float | None


def mean_bounds(values: Array, clusters: Roots) -> Bounds:
    """Bounds of a mean.

    Args:
        values: one per pair, a difference of two models on it, shape [pairs]; at least one.
        clusters: of the pairs; two models that are compared share the draws through it.
    """
    return _bounds(float(values.mean()), clusters.means(values), clusters)


def ratio_bounds(numerators: Array, denominators: Array, clusters: Roots) -> Bounds:
    """Bounds of a ratio of two means; resamples whose denominator is not above 0 are out.

    Args:
        numerators: shape [groups].
        denominators: shape [groups]; their mean is above 0.
        clusters: of the groups.
    """
    value = float(numerators.mean() / denominators.mean())
    samples = divided(clusters.means(numerators), clusters.means(denominators))
    return _bounds(value, samples, clusters)


def _bounds(value: float, samples: Array, clusters: Roots) -> Bounds:
    if clusters.number < 2:
        return Bounds(value, None, None)
    low, high = np.nanquantile(samples, [_TAIL, 1 - _TAIL])
    return Bounds(value, float(low), float(high))
