from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.ranking import ranking_loss
from assay.objectives.soft_labels import from_strength, smooth_all, smooth_negative


def entropy(share: Tensor) -> Tensor:
    return -share * share.log() - (1 - share) * (1 - share).log()


def test_smooth_all_gives_every_pair_the_same_share() -> None:
    assert smooth_all(torch.tensor([-3.0, 0.0, 3.0]), 0.25).tolist() == [0.25, 0.25, 0.25]


def test_smooth_negative_leaves_pairs_that_the_ensemble_agrees_with() -> None:
    found = smooth_negative(torch.tensor([-0.01, 0.0, 3.0, -7.0]), 0.25)
    assert found.tolist() == [0.25, 0.0, 0.0, 0.25]


@pytest.mark.parametrize("scheme", [smooth_all, smooth_negative])
@pytest.mark.parametrize("alpha", [0.5, 0.7, -0.1, math.nan])
def test_an_alpha_that_leaves_no_signal_or_turns_it_round_is_refused(
    scheme: Callable[[Tensor, float], Tensor], alpha: float
) -> None:
    with pytest.raises(InvalidInputError, match=r"alpha must be in \[0, \.5\)"):
        scheme(torch.zeros(2), alpha)


def test_from_strength_is_one_minus_the_sigmoid_of_the_scaled_mean() -> None:
    found = from_strength(torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64), 1.5)
    # 1 - sigmoid(0), 1 - sigmoid(1.5), 1 - sigmoid(-3): the last pair is aimed at the other order
    expected = torch.tensor([0.5, 0.1824255238, 0.9525741268], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_from_members_is_the_mean_of_their_beliefs_and_not_the_belief_in_their_mean() -> None:
    differences = torch.tensor([[2.0, -4.0], [1.0, 1.0]], dtype=torch.float64)
    by_hand = 1 - (1 / (1 + math.exp(-1.0)) + 1 / (1 + math.exp(2.0))) / 2
    found = from_strength(differences, 0.5)
    assert found[0].item() == pytest.approx(by_hand, abs=1e-12)
    assert found[1] == from_strength(torch.tensor([1.0], dtype=torch.float64), 0.5)


# Floors of the loss on the strengths of figure 2, where smoothing is all that keeps it up.
@pytest.mark.parametrize(
    ("scale", "floor"), [(1.0, 0.574), (1.4, 0.514), (1.5, 0.500), (2.0, 0.438)]
)
def test_the_floor_of_the_loss_is_the_mean_entropy_of_the_targets(
    group_means: Tensor, scale: float, floor: float
) -> None:
    smoothing = from_strength(group_means, scale)
    reached = ranking_loss(
        scale * group_means, torch.zeros_like(group_means), smoothing=smoothing, reduction="mean"
    )
    assert reached.item() == pytest.approx(floor, abs=5e-4)
    assert entropy(smoothing).mean().item() == pytest.approx(reached.item(), abs=1e-12)


def test_the_floor_of_members_targets(group_means: Tensor, group_stds: Tensor) -> None:
    """Members spread normally: differences at equal steps of probability stand for them."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    members = torch.tensor(nodes).repeat_interleave(
        torch.tensor(np.round(weights / weights.sum() * 100_000)).long()
    )
    differences = group_means[:, None] + group_stds[:, None] * members
    assert entropy(from_strength(differences)).mean().item() == pytest.approx(0.578, abs=1e-3)


def test_the_optimum_of_a_target_is_the_strength_itself() -> None:
    strength = torch.tensor([-1.2, 0.4, 3.0], dtype=torch.float64)
    chosen = strength.clone().requires_grad_()
    loss = ranking_loss(chosen, torch.zeros_like(strength), smoothing=from_strength(strength))
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_a_target_passes_no_gradient_to_the_strength() -> None:
    assert not from_strength(torch.zeros(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_not_above_0_is_refused(scale: float) -> None:
    with pytest.raises(InvalidInputError, match="scale"):
        from_strength(torch.zeros(2), scale)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_strength_that_is_not_finite_is_refused(value: float) -> None:
    strength = torch.tensor([0.5, value])
    for scheme in (smooth_all, smooth_negative):
        with pytest.raises(InvalidInputError, match="finite"):
            scheme(strength, 0.1)
    with pytest.raises(InvalidInputError, match="finite"):
        from_strength(strength)


def test_strengths_of_another_shape_or_type_are_refused() -> None:
    for wrong in (torch.zeros(()), torch.zeros(2, 0), torch.zeros(2, 1, 1)):
        with pytest.raises(ValueError, match="shape"):
            from_strength(wrong)
    for scheme in (smooth_all, smooth_negative):
        with pytest.raises(ValueError, match=r"shape \[B\]"):
            scheme(torch.zeros(2, 1), 0.1)
        with pytest.raises(ValueError, match="floating point"):
            scheme(torch.zeros(2, dtype=torch.long), 0.1)
