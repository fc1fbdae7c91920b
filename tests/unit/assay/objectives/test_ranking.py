from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from assay.errors import InvalidInputError
from assay.objectives.ranking import ranking_loss


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_and_gradient(
    difference: float, margin: float | None = None, alpha: float | None = None
) -> tuple[float, float]:
    chosen = double(difference).requires_grad_()
    loss = ranking_loss(
        chosen,
        double(0.0),
        margin=None if margin is None else double(margin),
        smoothing=None if alpha is None else double(alpha),
    )
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    return loss.item(), gradient.item()


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


# Values to ten digits, computed apart from this code.
@pytest.mark.parametrize(
    ("difference", "margin", "alpha", "loss", "gradient"),
    [
        (1.0, None, 0.2, 0.5132616875, -0.0689414214),
        (1.0, 0.77, None, 0.5847451567, -0.4427521454),
        (2.0, 1.5, 0.1, 0.5240769842, -0.2775406688),
    ],
)
def test_margin_and_smoothing_share_one_formula(
    difference: float, margin: float | None, alpha: float | None, loss: float, gradient: float
) -> None:
    found = loss_and_gradient(difference, margin, alpha)
    assert list(found) == pytest.approx([loss, gradient], abs=1e-10)


@pytest.mark.parametrize("difference", [-2.0, 0.3, 5.0])
@pytest.mark.parametrize("margin", [-1.0, 0.0, 2.5])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.9])
def test_gradient_is_the_probability_at_the_margin_minus_the_target(
    difference: float, margin: float, alpha: float
) -> None:
    expected = 1 / (1 + math.exp(margin - difference)) - (1 - alpha)
    assert loss_and_gradient(difference, margin, alpha)[1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.49, 0.8, 1.0])
def test_equal_scores_cost_ln_2_whatever_the_smoothing(alpha: float) -> None:
    assert loss_and_gradient(0.0, None, alpha)[0] == pytest.approx(0.6931471806, abs=1e-10)


def test_smoothing_has_its_floor_where_the_probability_is_the_target() -> None:
    floor, gradient = loss_and_gradient(1.3862943611, None, 0.2)  # ln(.8 / .2)
    assert floor == pytest.approx(0.5004024235, abs=1e-10)  # -.2 ln .2 - .8 ln .8
    assert gradient == pytest.approx(0.0, abs=1e-10)


def test_swapping_the_sides_is_the_same_as_the_opposite_target() -> None:
    for difference, alpha in [(0.7, 0.2), (-3.0, 0.35)]:
        swapped = loss_and_gradient(-difference, None, alpha)[0]
        assert swapped == pytest.approx(loss_and_gradient(difference, None, 1 - alpha)[0])


def test_zero_margin_and_zero_smoothing_are_the_plain_loss_to_the_last_bit() -> None:
    chosen, rejected = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    plain = ranking_loss(chosen, rejected)
    zeros = torch.zeros(9)
    assert torch.equal(ranking_loss(chosen, rejected, margin=zeros, smoothing=zeros), plain)
    torch.testing.assert_close(plain, -logsigmoid(chosen - rejected))


def test_margin_and_difference_that_move_together_leave_the_loss() -> None:
    assert loss_and_gradient(3.5, 2.0, 0.1)[0] == pytest.approx(
        loss_and_gradient(1.5, 0.0, 0.1)[0], abs=1e-12
    )


def test_a_larger_margin_never_lowers_the_loss() -> None:
    losses = [loss_and_gradient(0.4, margin)[0] for margin in (-3.0, -0.1, 0.0, 0.5, 4.0, 80.0)]
    assert losses == sorted(losses)


def test_centring_adds_the_mean_square_of_the_sums() -> None:
    chosen, rejected = double(2.0, 0.5), double(1.0, -0.5)
    by_hand = 0.01 * ((2 + 1) ** 2 + 0**2) / 2  # .045
    centred = ranking_loss(chosen, rejected, centring=0.01, reduction="mean")
    plain = ranking_loss(chosen, rejected, reduction="mean")
    assert (centred - plain).item() == pytest.approx(by_hand, abs=1e-12)


def test_centring_moves_both_scores_the_same_way() -> None:
    chosen, rejected = double(2.0).requires_grad_(), double(1.0).requires_grad_()
    loss = ranking_loss(chosen, rejected, centring=0.01).sum()
    to_chosen, to_rejected = torch.autograd.grad(loss, (chosen, rejected))
    # 2 * .01 * (2 + 1) = .06 on each side, beside -+(1 - sigmoid(1)) = -+.2689414214
    assert to_chosen.item() == pytest.approx(0.06 - 0.2689414214, abs=1e-10)
    assert to_rejected.item() == pytest.approx(0.06 + 0.2689414214, abs=1e-10)


def test_mean_is_that_of_the_pairs() -> None:
    chosen, rejected = double(2.0, 1.0), double(1.0, 2.0)
    loss = ranking_loss(chosen, rejected, reduction="mean")
    assert loss.item() == pytest.approx((0.3132616875 + 1.3132616875) / 2, abs=1e-10)


def test_a_margin_of_one_column_or_scores_of_one_column_are_never_broadcast() -> None:
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match=r"scores of one shape \[B\]"):
        ranking_loss(column, column, margin=row)
    with pytest.raises(ValueError, match=r"margin of shape \[3\]"):
        ranking_loss(row, row, margin=column)
    with pytest.raises(ValueError, match=r"smoothing of shape \[3\]"):
        ranking_loss(row, row, smoothing=column)
    for other in (torch.zeros(()), torch.zeros(1), torch.zeros(2), torch.zeros(0)):
        with pytest.raises(ValueError, match="margin of shape"):
            ranking_loss(row, row, margin=other)


def test_a_margin_with_a_gradient_is_refused() -> None:
    scores = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="detached"):
        ranking_loss(scores, torch.zeros(2), margin=scores.mean().expand(2))


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan])
def test_smoothing_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInputError, match="smoothing"):
        ranking_loss(torch.zeros(2), torch.zeros(2), smoothing=torch.tensor([0.1, alpha]))


@pytest.mark.parametrize("centring", [-0.01, math.nan, math.inf])
def test_centring_that_would_push_scores_apart_is_refused(centring: float) -> None:
    with pytest.raises(InvalidInputError, match="centring"):
        ranking_loss(torch.zeros(2), torch.zeros(2), centring=centring)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        ranking_loss(torch.zeros(2), torch.zeros(2), reduction="sum")  # type: ignore[arg-type]


def test_scores_that_are_not_finite_stay_visible_in_the_loss_of_their_pair() -> None:
    loss = ranking_loss(torch.tensor([math.nan, 0.0]), torch.zeros(2), margin=torch.zeros(2))
    assert loss.isnan().tolist() == [True, False]
