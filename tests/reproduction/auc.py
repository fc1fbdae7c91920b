"""How well each detector tells turned labels from clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reproduction.draws import Array, Draws
from reproduction.results import Detection
from reward_trainer.evaluate.statistics import Estimate, divided

ENSEMBLE, MEMBER, LENGTH, GRAPH = "ensemble mean", "one member", "log length", "pair graph"
DETECTORS = (ENSEMBLE, MEMBER, LENGTH, GRAPH)


@dataclass(frozen=True)
class Detector:
    """One detector on the training parts of one rate.

    Attributes:
        auc: P(a clean label's value > a turned one's), ties counting half; mean over folds.
        behind: AUC of the ensemble mean minus this one's, paired; None for the mean itself.
    """

    auc: Estimate
    behind: Estimate | None


def compare_detectors(folds: Sequence[Detection]) -> dict[str, Detector]:
    """AUC of each detector, with intervals by resampling roots; all use the same draws."""
    draws = Draws.of(root for fold in folds for root in fold.roots)
    sampled = {name: _mean_auc(folds, name, draws) for name in DETECTORS}
    best, best_samples = sampled[ENSEMBLE]
    made = {}
    for name, (value, samples) in sampled.items():
        behind = None if name == ENSEMBLE else draws.interval(best - value, best_samples - samples)
        made[name] = Detector(draws.interval(value, samples), behind)
    return made


def _mean_auc(folds: Sequence[Detection], name: str, draws: Draws) -> tuple[float, Array]:
    each = []
    for fold in folds:
        clean, places = np.array(fold.flipped) == 0, draws.places(fold.roots)
        weights = np.concatenate([np.ones((1, len(draws.place))), draws.counts])
        each += [resampled_auc(v, clean, places, weights) for v in _values(fold, name)]
    mean = np.mean(each, axis=0)
    return float(mean[0]), mean[1:]


def _values(fold: Detection, name: str) -> list[Array]:
    """A detector's values of the pairs; for one member, those of each."""
    members = np.array(fold.differences)
    return {
        ENSEMBLE: [members.mean(axis=0)],
        MEMBER: list(members),
        LENGTH: [np.array(fold.log_length)],
        GRAPH: [np.array(fold.pair_graph)],
    }[name]


def resampled_auc(
    values: Array, clean: NDArray[np.bool_], places: NDArray[np.intp], weights: Array
) -> Array:
    """P(value of a clean pair > value of a turned one), ties counting half, by weights of roots.

    Args:
        values: shape [pairs].
        clean: which pairs, shape [pairs].
        places: the root of each, shape [pairs].
        weights: of each root, shape [resamples, roots].

    Returns:
        Shape [resamples]; NaN where one kind has no weight.
    """
    levels, level = np.unique(values, return_inverse=True)
    ahead, total = np.empty(len(weights)), np.empty(len(weights))
    for index, by_root in enumerate(weights):
        weight = by_root[places]
        ones = np.bincount(level, weights=weight * clean, minlength=len(levels))
        zeros = np.bincount(level, weights=weight * ~clean, minlength=len(levels))
        ahead[index] = ones @ (np.cumsum(zeros) - zeros / 2)
        total[index] = ones.sum() * zeros.sum()
    return divided(ahead, total)
