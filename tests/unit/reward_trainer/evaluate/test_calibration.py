from __future__ import annotations

import math

import numpy as np
import pytest

from reward_trainer.evaluate.calibration import folded_calibration, preference


def test_the_probability_is_the_mean_over_members() -> None:
    differences = np.array([[2.0, -1.0, 0.5]])
    expected = sum(1 / (1 + math.exp(-d / 0.5)) for d in (2.0, -1.0, 0.5)) / 3
    assert preference(differences, 0.5)[0] == pytest.approx(expected)


def test_folded_calibration_by_hand() -> None:
    """Two bins. p = .6 and .3 fold to .6 (right) and .7 (wrong): mean .65, half right. p = .9 and
    .8 are right: mean .85 against 1. Error = (2 * .15 + 2 * .15) / 4."""
    found = folded_calibration(np.array([0.6, 0.3, 0.9, 0.8]), list("abcd"), 1.0, bins=2)
    assert [(row.low, row.high, row.pairs) for row in found.bins] == [
        (0.5, 0.75, 2),
        (0.75, 1.0, 2),
    ]
    assert [row.probability for row in found.bins] == pytest.approx([0.65, 0.85])
    assert [row.frequency for row in found.bins] == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx(0.15)
    assert found.overconfidence.value == pytest.approx((0.6 + 0.7 + 0.9 + 0.8) / 4 - 0.75)


def test_which_side_is_called_chosen_changes_the_frequency_only() -> None:
    p = np.array([0.55, 0.8, 0.95])
    one, other = (folded_calibration(values, list("abc"), 1.0) for values in (p, 1 - p))
    assert [row.pairs for row in one.bins] == [row.pairs for row in other.bins]
    assert [row.frequency for row in other.bins if row.pairs] == [0.0, 0.0, 0.0]


def test_the_ends_belong_to_the_outer_bins() -> None:
    found = folded_calibration(np.array([0.5, 1.0, 0.0]), list("abc"), 1.0, bins=5)
    assert [row.pairs for row in found.bins] == [1, 0, 0, 0, 2]
    assert found.bins[0].frequency == 0.5  # no side is preferred
    assert found.bins[1].probability is None


def test_error_equals_an_independent_loop() -> None:
    random = np.random.default_rng(3)
    p = random.random(500)
    expected = 0.0
    for edge in range(10):
        low, high = 0.5 + edge * 0.05, 0.5 + (edge + 1) * 0.05
        inside = [x for x in p if low <= max(x, 1 - x) < high]
        if inside:
            confidence = sum(max(x, 1 - x) for x in inside) / len(inside)
            hits = sum(x > 0.5 for x in inside) / len(inside)
            expected += len(inside) / len(p) * abs(confidence - hits)
    found = folded_calibration(p, [str(i) for i in range(500)], 1.0)
    assert found.error == pytest.approx(expected)


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=5_000)
    sign = np.where(random.random(5_000) < 1 / (1 + np.exp(-logits)), 1.0, -1.0)
    roots = [str(i) for i in range(5_000)]
    errors = [
        folded_calibration(preference((logits * sign)[:, None], t), roots, t).error
        for t in (1.0, 0.2)
    ]
    assert errors[0] < 0.03
    assert errors[1] > 0.15
