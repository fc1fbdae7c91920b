"""AUC of detectors, resampled by roots."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reproduction.auc import (
    DETECTORS,
    ENSEMBLE,
    GRAPH,
    LENGTH,
    MEMBER,
    compare_detectors,
    resampled_auc,
)
from reproduction.results import Detection


def test_weighted_auc_is_that_of_pairs_repeated_by_the_weights_of_their_roots() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 6, size=80).astype(float)  # with ties
    clean = random.random(80) < 0.6
    places = random.integers(0, 5, size=80)
    weights = random.integers(0, 4, size=(7, 5)).astype(float)

    made = resampled_auc(values, clean, places, weights)

    for by_root, auc in zip(weights, made, strict=True):
        often = by_root[places].astype(int)
        expected = roc_auc_score(np.repeat(clean, often), np.repeat(values, often))
        assert auc == pytest.approx(expected, abs=1e-12)


def test_a_resample_without_a_flipped_label_has_no_auc() -> None:
    weights = np.array([[1.0, 0.0]])
    clean, places = np.array([True, False]), np.array([0, 1])

    assert np.isnan(resampled_auc(np.array([1.0, 0.0]), clean, places, weights)).all()


def detection(first: str, second: str) -> Detection:
    return Detection(
        roots=[first] * 4 + [second] * 4,
        flipped=[0, 0, 1, 1] * 2,
        # Member 0 is always right; member 1 always wrong, and weaker: their mean is right.
        differences=[[2.0, 2.0, -2.0, -2.0] * 2, [-1.0, -1.0, 1.0, 1.0] * 2],
        log_length=[1.0, 0.0, 1.0, 0.0] * 2,
        pair_graph=[0.0] * 8,
    )


def test_detectors_are_compared_over_all_folds() -> None:
    found = compare_detectors([detection("a", "b"), detection("b", "c")])

    assert tuple(found) == DETECTORS
    assert {name: found[name].auc.value for name in found} == {
        ENSEMBLE: 1.0,
        MEMBER: 0.5,  # mean of 1 and 0
        LENGTH: 0.5,
        GRAPH: 0.5,
    }
    assert found[ENSEMBLE].behind is None
    behind = found[LENGTH].behind
    assert behind is not None
    assert (behind.value, behind.low, behind.high) == (0.5, 0.5, 0.5)
