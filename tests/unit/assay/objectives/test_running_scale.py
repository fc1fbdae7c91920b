from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.running_scale import RunningScale


def test_rewards_are_brought_to_the_mean_size_of_the_scores() -> None:
    scale = RunningScale()
    # mean |score| 3, mean |reward| .75: signed means would give 1 / -.25
    scaled = scale(torch.tensor([-1.0, 0.5]), torch.tensor([4.0, -2.0]), "m@1")
    assert scaled.tolist() == [-4.0, 2.0]
    assert scale.factor("m@1") == pytest.approx(4.0)


def test_rewards_of_signed_mean_0_are_scaled_like_any_other() -> None:
    scaled = RunningScale()(torch.tensor([-0.5, 0.5]), torch.tensor([1.0, 1.0]), "m@1")
    assert scaled.tolist() == [-1.0, 1.0]


def test_means_run_over_batches() -> None:
    scale = RunningScale(decay=0.5)
    scale(torch.tensor([1.0]), torch.tensor([2.0]), "m@1")
    scale(torch.tensor([-3.0]), torch.tensor([4.0]), "m@1")
    # scores .5 * (.5 * 2) + .5 * 4 = 2.5; rewards .5 * (.5 * 1) + .5 * 3 = 1.75
    assert scale.factor("m@1") == pytest.approx(2.5 / 1.75)


def test_versions_never_mix() -> None:
    scale = RunningScale()
    assert scale.factor("m@1") == 1.0
    scale(torch.tensor([1.0]), torch.tensor([2.0]), "m@1")
    scale(torch.tensor([1.0]), torch.tensor([5.0]), "m@2")
    assert scale.factor("m@1") == pytest.approx(2.0)
    assert scale.factor("m@2") == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("reward", "score", "factor"), [(0.001, 5.0, 10.0), (5.0, 0.001, 0.1), (0.0, 5.0, 10.0)]
)
def test_the_factor_is_clamped(reward: float, score: float, factor: float) -> None:
    scale = RunningScale()
    scale(torch.tensor([reward]), torch.tensor([score]), "m@1")
    assert scale.factor("m@1") == factor


def test_rewards_that_are_all_0_stay_0() -> None:
    assert RunningScale()(torch.zeros(3), torch.zeros(3), "m@1").tolist() == [0.0, 0.0, 0.0]


def test_a_pickled_scale_goes_on_where_it_was() -> None:
    scale = RunningScale()
    scale(torch.tensor([1.0]), torch.tensor([2.0]), "m@1")
    restored = pickle.loads(pickle.dumps(scale))  # noqa: S301
    batch = torch.tensor([0.5]), torch.tensor([3.0]), "m@1"
    assert torch.equal(restored(*batch), scale(*batch))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused_and_leaves_the_means(value: float) -> None:
    scale = RunningScale()
    scale(torch.tensor([1.0]), torch.tensor([2.0]), "m@1")
    good, bad = torch.tensor([1.0, 1.0]), torch.tensor([1.0, value])
    for rewards, scores in [(good, bad), (bad, good)]:
        with pytest.raises(InvalidInputError, match="finite"):
            scale(rewards, scores, "m@1")
    assert scale.factor("m@1") == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("rewards", "scores"),
    [
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2, 1), torch.zeros(2)),
        (torch.zeros(0), torch.zeros(0)),
        (torch.zeros(2, dtype=torch.long), torch.zeros(2)),
    ],
)
def test_wrong_tensors_are_refused(rewards: Tensor, scores: Tensor) -> None:
    with pytest.raises(ValueError, match=r"scores|rewards"):
        RunningScale()(rewards, scores, "m@1")


@pytest.mark.parametrize(
    "options",
    [
        {"decay": 1.0},
        {"decay": -0.1},
        {"decay": math.nan},
        {"smallest": 0.0},
        {"smallest": 2.0, "largest": 1.0},
        {"largest": math.nan},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        RunningScale(**options)
