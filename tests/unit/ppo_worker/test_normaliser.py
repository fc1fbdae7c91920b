"""Running moments of rewards, one set a version."""

from __future__ import annotations

import pytest
import torch

from ppo_worker.normaliser import Moments, RewardNormaliser


def test_streaming_moments_equal_those_of_all_values_at_once() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    moments = Moments()
    for part in (values[:1], values[1:20], values[20:]):
        moments = moments.joined(part)
    assert moments.count == 50
    assert moments.mean == pytest.approx(values.mean().item(), rel=1e-12)
    assert moments.std == pytest.approx(values.std(correction=0).item(), rel=1e-12)


def test_rewards_are_brought_to_mean_zero_and_std_one_then_clipped() -> None:
    # mean 2, population std sqrt(2/3)
    rewards = torch.tensor([1.0, 2.0, 3.0])
    expected = (3 / 2) ** 0.5
    free = RewardNormaliser(None, {})(rewards, "m@1")
    assert free.tolist() == pytest.approx([-expected, 0.0, expected], rel=1e-6)
    assert RewardNormaliser(0.8, {})(rewards, "m@1").tolist() == pytest.approx([-0.8, 0.0, 0.8])


def test_each_version_has_its_own_moments_and_finds_them_again() -> None:
    moments: dict[str, Moments] = {}
    normaliser = RewardNormaliser(None, moments)
    normaliser(torch.tensor([0.0, 2.0]), "m@1")
    other = normaliser(torch.tensor([100.0, 300.0]), "m@2")
    assert other.tolist() == [-1.0, 1.0]
    normaliser(torch.tensor([1.0, 1.0]), "m@1")
    assert moments["m@1"] == Moments(4, 1.0, 2.0)
    assert moments["m@2"].mean == 200


@pytest.mark.parametrize("rewards", [[5.0], [5.0, 5.0, 5.0]])
def test_rewards_without_spread_are_zero_and_no_nan(rewards: list[float]) -> None:
    assert not RewardNormaliser(0.8, {})(torch.tensor(rewards), "m@1").any()
