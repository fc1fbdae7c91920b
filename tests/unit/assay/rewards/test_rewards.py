from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.errors import InvalidInputError
from assay.rewards.aggregate import aggregate, check_aggregate, spread
from assay.rewards.contrastive import contrastive, leave_one_out
from assay.rewards.strength import choose_action, sigmoid, strength
from assay.schemas.models import Calibration

finite = st.floats(-100, 100)
matrices = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=finite)

# One row of the released hh-rlhf-strength-cleaned data, ten scores each (arXiv 2401.06080).
CHOSEN = [3.71875, 0.58984375, 3.390625, 0.006805419921875, -0.6953125]
CHOSEN += [1.0390625, 1.4140625, 0.8359375, 3.078125, 2.0]
REJECTED = [3.546875, 0.9921875, 2.125, -0.330078125, 1.171875]
REJECTED += [1.2578125, 1.078125, 1.0546875, 3.546875, 2.265625]


def calibration(quantiles: list[float], temperature: float = 1.0) -> Calibration:
    return Calibration(
        pairs=10, offsets=[0.0], temperature=temperature, quantiles=quantiles, digest="x"
    )


def test_strength_of_a_released_row() -> None:
    result = strength(np.array(CHOSEN) - np.array(REJECTED), None)
    assert result.mean == pytest.approx(-0.1331085205, abs=1e-9)
    assert result.std == pytest.approx(0.7559609370, abs=1e-9)  # population, not .7968527943
    assert result.votes == 4


@given(arrays(np.float64, st.integers(2, 8), elements=finite))
def test_strength_of_the_swapped_pair_is_the_mirror_image(differences: np.ndarray) -> None:
    one, other = strength(differences, None), strength(-differences, None)
    assert one.mean == -other.mean
    assert one.std == other.std
    assert one.probability == pytest.approx(1 - other.probability)
    assert one.mean**2 + (one.std or 0) ** 2 == pytest.approx((differences**2).mean(), abs=1e-6)


def test_probability_is_the_mean_of_the_members_sigmoids_at_the_temperature() -> None:
    result = strength(np.array([2.0, -4.0]), calibration([-9.0, 9.0], temperature=2.0))
    by_hand = (1 / (1 + math.exp(-1.0)) + 1 / (1 + math.exp(2.0))) / 2
    assert result.probability == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("mean", "quantile"),
    [(-1.0, 0.0), (0.0, 0.5), (0.5, 0.625), (3.0, 1.0), (-1.01, None), (3.01, None)],
)
def test_quantile_is_interpolated_inside_the_calibration_and_unknown_outside(
    mean: float, quantile: float | None
) -> None:
    result = strength(np.array([mean, mean]), calibration([-1.0, -0.5, 0.0, 1.0, 3.0]))
    assert result.quantile == (None if quantile is None else pytest.approx(quantile))
    assert (result.action is None) == (quantile is None)


@pytest.mark.parametrize(
    ("mean", "quantile", "action"),
    [
        (-0.5, 0.09, "flip"),
        (0.5, 0.09, "smooth"),  # among the weakest, and still preferred as labelled
        (-0.5, 0.10, "smooth"),
        (0.5, 0.39, "smooth"),
        (0.5, 0.40, "keep"),
        (-0.5, 0.40, "keep"),
    ],
)
def test_action_table(mean: float, quantile: float, action: str) -> None:
    assert choose_action(mean, quantile) == action


def test_aggregates_by_hand() -> None:
    values = np.array([[1.0, 3.0], [2.0, 2.0]])
    assert aggregate(values, "mean").tolist() == [2.0, 2.0]
    assert aggregate(values, "min").tolist() == [1.0, 2.0]
    assert spread(values).tolist() == [1.0, 0.0]
    assert aggregate(values, "lcb", 0.5).tolist() == [1.5, 2.0]


@pytest.mark.parametrize(("members", "calibrated"), [(1, True), (1, False), (3, False)])
def test_pessimism_needs_a_calibrated_ensemble(members: int, calibrated: bool) -> None:
    check_aggregate("mean", members, calibrated)
    for how in ("min", "lcb"):
        with pytest.raises(InvalidInputError):
            check_aggregate(how, members, calibrated)
    check_aggregate("lcb", 3, calibrated=True)


def test_contrastive_by_hand() -> None:
    # r = 2 over baselines 1, .5, 1.5, 1, 1 of mean 1
    baselines = np.array([[1.0], [0.5], [1.5], [1.0], [1.0]])
    assert contrastive(np.array([[2.0]]), baselines).tolist() == [[1.0]]
    assert contrastive(np.array([[2.0]]), baselines[:1]).tolist() == [[1.0]]  # k = 1: r - r_1
    equal = np.array([[0.7], [0.7]])
    assert contrastive(equal[:1], equal, shape="sigmoid").tolist() == [[0.5]]


@given(matrices, st.floats(-50, 50))
def test_contrastive_of_the_baselines_is_zero_on_average_whatever_the_prompts_offset(
    scores: np.ndarray, offset: float
) -> None:
    offsets = offset * np.arange(1, scores.shape[1] + 1)
    rewards = contrastive(scores + offsets, scores + offsets)
    np.testing.assert_allclose(rewards.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(rewards, contrastive(scores, scores), atol=1e-9)


@given(matrices)
def test_sigmoid_shape_stays_between_0_and_1_and_ignores_the_order_of_baselines(
    scores: np.ndarray,
) -> None:
    rewards = contrastive(scores, scores, shape="sigmoid")
    assert ((rewards >= 0) & (rewards <= 1)).all()
    np.testing.assert_allclose(rewards, contrastive(scores, scores[::-1], shape="sigmoid"))


def test_leave_one_out_is_the_loop_that_leaves_one_out() -> None:
    scores = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 90.0]])
    rewards = leave_one_out(scores)
    assert rewards.tolist() == [[-3.0, -45.0], [-1.5, -30.0], [4.5, 75.0]]
    np.testing.assert_allclose(rewards.sum(axis=0), 0.0, atol=1e-12)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_sigmoid_rewards_of_many_texts_take_little_memory() -> None:
    scores = np.zeros((1000, 2))
    tracemalloc.start()
    contrastive(scores, scores, shape="sigmoid")  # all at once: 16 MB for each intermediate
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20
