"""Means over pairs with intervals that know that pairs of one conversation root hang together.

Pairs of one root share texts and rise and fall together, so a bootstrap draws whole roots. Every
statistic of one `Roots` uses the same draws: a difference of two of them is a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

_RESAMPLES = 2000
_SEED = 0
_BLOCK = 100  # resamples whose counts are held as floats at a time
_TAIL = 0.025

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Estimate(BaseModel):
    """A number with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = Field(description="None = fewer than two roots: nothing to resample.")
    high: float | None


class Part(NamedTuple):
    """What a weighted mean is made of: the mean of `values` over the pairs of `among`."""

    weight: float
    values: Array
    among: Mask


@dataclass(frozen=True, eq=False)
class Roots:
    """Pairs by conversation root, and how often each root is drawn in each resample.

    Attributes:
        index: each pair's root, shape [pairs].
        counts: shape [resamples, roots].
    """

    index: NDArray[np.intp]
    counts: NDArray[np.uint8]

    @classmethod
    def of(cls, roots: Sequence[str]) -> Roots:
        """Number the roots and draw the resamples, the same ones each time."""
        index = np.unique(np.asarray(roots), return_inverse=True)[1]
        number = int(index.max()) + 1
        random = np.random.default_rng(_SEED)
        counts = np.empty((_RESAMPLES, number), dtype=np.uint8)
        for row in counts:
            row[:] = np.bincount(random.integers(number, size=number), minlength=number)
        return cls(index, counts)

    @property
    def number(self) -> int:
        return int(self.counts.shape[1])

    def totals(self, values: Array) -> Array:
        """Sum of one number per pair, in each resample, shape [resamples]."""
        sums = np.bincount(self.index, weights=values, minlength=self.number)
        blocks = range(0, len(self.counts), _BLOCK)
        return np.concatenate([self.counts[i : i + _BLOCK].astype(float) @ sums for i in blocks])

    def means(self, values: Array, among: Mask | None = None) -> Array:
        """Mean in each resample, NaN in those that hold no pair of `among`, shape [resamples]."""
        counted = _everything(values) if among is None else among
        sizes = self.totals(counted.astype(float))
        sums = self.totals(np.where(counted, values, 0.0))
        return divided(sums, sizes)

    def mean(self, values: Array, among: Mask | None = None) -> Estimate:
        """Mean over the pairs of `among`, with the percentile interval of the bootstrap.

        Args:
            values: one number per pair, shape [pairs].
            among: the pairs that count, shape [pairs]; at least one.
        """
        counted = _everything(values) if among is None else among
        value = float(values[counted].mean())
        return self.interval(value, self.means(values, among), among)

    def share(self, values: Array, among: Mask | None = None) -> Estimate:
        """Mean of numbers between 0 and 1.

        Where all of them are 1, no resample differs, and the far end of the interval is the exact
        binomial one over roots, `.025 ** (1 / roots)`; where all are 0, one minus it.
        """
        counted = _everything(values) if among is None else among
        estimate = self.mean(values, among)
        if estimate.low is None:
            return estimate
        bound = _TAIL ** (1 / len(np.unique(self.index[counted])))
        if estimate.value == 1.0:
            return Estimate(value=1.0, low=bound, high=1.0)
        if estimate.value == 0.0:
            return Estimate(value=0.0, low=0.0, high=1.0 - bound)
        return estimate

    def weighted(self, parts: Sequence[Part]) -> Estimate:
        """Sum of `weight * mean(values over among)`; resamples without one of the parts are out."""
        value = sum(part.weight * float(part.values[part.among].mean()) for part in parts)
        samples = np.sum([p.weight * self.means(p.values, p.among) for p in parts], axis=0)
        return self.interval(value, samples, np.any([part.among for part in parts], axis=0))

    def interval(self, value: float, samples: Array, among: Mask | None = None) -> Estimate:
        """A number with the 95 % range of what it is in the resamples; NaN ones are left out."""
        roots = self.index if among is None else self.index[among]
        if len(np.unique(roots)) < 2:
            return Estimate(value=value, low=None, high=None)
        low, high = np.nanquantile(samples, [_TAIL, 1 - _TAIL])
        return Estimate(value=value, low=float(low), high=float(high))


def right(differences: Array) -> Array:
    """1 where a pair is ranked right, 0 where wrong, one half for a tie.

    Args:
        differences: score(chosen) - score(rejected), shape [pairs].
    """
    return (np.sign(differences) + 1) / 2


def divided(numerators: Array, denominators: Array) -> Array:
    """Elementwise quotients, NaN where the denominator is not above 0."""
    result = np.full(len(numerators), np.nan)
    np.divide(numerators, denominators, out=result, where=denominators > 0)
    return result


def _everything(values: Array) -> Mask:
    return np.ones(len(values), dtype=bool)
