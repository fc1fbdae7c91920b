"""Means over models and topics or prompts, with intervals that resample both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reproduction.draws import Array, Draws
from reward_trainer.evaluate.statistics import Estimate

_SEED = 1
_TAIL = 0.025


@dataclass(frozen=True)
class Measure:
    """Sums of a measure for each model and cluster.

    Attributes:
        clusters: topics or prompts.
        sums: shape [models, clusters].
        counts: what the sums are of, shape [clusters].
    """

    clusters: tuple[str, ...]
    sums: Array
    counts: Array

    @property
    def means(self) -> Array:
        """Mean of each model, shape [models]."""
        return np.asarray(self.sums.sum(axis=1) / self.counts.sum())

    def minus(self, other: Measure) -> Measure:
        """The paired difference: the same models' starts, batches and clusters."""
        if self.clusters != other.clusters or self.sums.shape != other.sums.shape:
            raise ValueError("two measures are of other clusters or models")
        return Measure(self.clusters, self.sums - other.sums, self.counts)


def estimate(measure: Measure) -> Estimate:
    """Mean over models, with the 95 % interval of a bootstrap over clusters and models at once."""
    draws = Draws.of(measure.clusters)
    places = draws.places(measure.clusters)
    by_cluster = np.zeros((len(measure.sums), len(draws.place)))
    counts = np.zeros(len(draws.place))
    by_cluster[:, places], counts[places] = measure.sums, measure.counts
    weights = _models_drawn(len(measure.sums), len(draws.counts))
    sums = np.einsum("rm,mc,rc->r", weights, by_cluster, draws.counts)
    samples = sums / (draws.counts @ counts)
    low, high = np.quantile(samples, [_TAIL, 1 - _TAIL])
    return Estimate(value=float(measure.means.mean()), low=float(low), high=float(high))


def _models_drawn(models: int, resamples: int) -> NDArray[np.float64]:
    """The share of each model in each resample."""
    random = np.random.default_rng(_SEED)
    return random.multinomial(models, np.full(models, 1 / models), size=resamples) / models
