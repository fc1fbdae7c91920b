from __future__ import annotations

import math

import pytest
import torch

from assay.objectives.ranking import ranking_loss


def test_equal_scores_cost_ln_2() -> None:
    scores = torch.tensor([-3.0, 0.0, 2.5])
    torch.testing.assert_close(ranking_loss(scores, scores), torch.full((3,), 0.693147))


def test_loss_matches_values_worked_by_hand() -> None:
    # -ln(1 / (1 + e^-1)) = ln(1 + 0.367879) = 0.313262; with -1: ln(1 + 2.718282) = 1.313262
    loss = ranking_loss(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(loss, torch.tensor([0.313262, 1.313262]), rtol=1e-5, atol=0)


def test_swapping_the_sides_changes_the_loss_by_the_difference() -> None:
    chosen = torch.tensor([0.3, -4.0, 11.0], dtype=torch.float64)
    rejected = torch.tensor([1.9, 2.0, -3.0], dtype=torch.float64)
    swapped = ranking_loss(chosen, rejected) - ranking_loss(rejected, chosen)
    torch.testing.assert_close(swapped, rejected - chosen)


def test_a_constant_added_to_both_scores_changes_nothing() -> None:
    chosen, rejected = torch.tensor([0.5, -1.0]), torch.tensor([-0.25, 2.0])
    torch.testing.assert_close(
        ranking_loss(chosen + 64.0, rejected + 64.0), ranking_loss(chosen, rejected)
    )


def test_gradient_is_the_probability_of_the_label_minus_one() -> None:
    chosen = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ranking_loss(chosen, rejected).sum().backward()  # type: ignore[no-untyped-call]
    # sigmoid(1) - 1, sigmoid(-2) - 1, sigmoid(0) - 1
    expected = torch.tensor([-0.26894142, -0.88079708, -0.5], dtype=torch.float64)
    torch.testing.assert_close(chosen.grad, expected)
    torch.testing.assert_close(rejected.grad, -expected)


def test_a_badly_wrong_pair_has_a_finite_loss_and_a_full_gradient() -> None:
    chosen = torch.tensor([-1000.0], requires_grad=True)
    loss = ranking_loss(chosen, torch.tensor([0.0]))
    torch.autograd.backward(loss.sum())
    assert loss.item() == 1000.0
    assert chosen.grad is not None
    assert math.isclose(chosen.grad.item(), -1.0)


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2, 1), torch.zeros(2, 1)),
        (torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long)),
    ],
)
def test_scores_of_another_shape_or_type_are_refused(
    chosen: torch.Tensor, rejected: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="scores"):
        ranking_loss(chosen, rejected)
