from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.margins import adaptive_margin, batch_mean, batch_threshold
from assay.objectives.ranking import ranking_loss

BATCH_MARGINS = [batch_mean, batch_threshold]
RANK = Path(__file__).parent / "rank.py"


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_at(differences: Tensor, margin: Tensor) -> Tensor:
    return ranking_loss(differences, torch.zeros_like(differences), margin=margin)


def test_adaptive_margin_is_the_raw_strength_with_its_sign() -> None:
    strength = double(-1.5, 0.0, 2.25)
    assert adaptive_margin(strength).tolist() == [-1.5, 0.0, 2.25]


def test_adaptive_margin_changes_its_sign_on_flipped_pairs() -> None:
    flipped = torch.tensor([True, False, True])
    assert adaptive_margin(double(-1.5, -0.5, 2.0), flipped).tolist() == [1.5, -0.5, -2.0]


def test_training_with_adaptive_margins_starts_where_the_paper_does(group_means: Tensor) -> None:
    """Figures 7 and 8: 1.21, and 1.29 with the weakest tenth flipped; accuracy .26."""
    margin = adaptive_margin(group_means)
    start = torch.zeros_like(margin)
    assert loss_at(start, margin).mean().item() == pytest.approx(1.207, abs=5e-4)
    assert ((start - margin) > 0).double().mean().item() == pytest.approx(0.25)
    flipped = torch.arange(20) < 2
    re_signed = adaptive_margin(group_means, flipped)
    assert loss_at(start, re_signed).mean().item() == pytest.approx(1.297, abs=5e-4)


def test_adaptive_margins_of_another_shape_or_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strength of shape \[B\]"):
        adaptive_margin(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"flipped of shape \[3\]"):
        adaptive_margin(torch.zeros(3), torch.zeros(3, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="bool"):
        adaptive_margin(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="floating point"):
        adaptive_margin(torch.zeros(3, dtype=torch.long))
    with pytest.raises(InvalidInputError, match="finite"):
        adaptive_margin(torch.tensor([1.0, math.nan]))


def test_batch_mean_is_one_margin_for_all() -> None:
    assert batch_mean(double(0.5, -0.5, 1.5)).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("difference", [0.0, 0.3, 0.99])
def test_equal_differences_cost_ln_2_under_their_mean(difference: float) -> None:
    differences = torch.full((4,), difference, dtype=torch.float64)
    losses = loss_at(differences, batch_mean(differences))
    torch.testing.assert_close(losses, torch.full_like(losses, 0.6931471806), rtol=0, atol=1e-9)


def test_a_constant_added_to_all_differences_leaves_the_losses_under_their_mean() -> None:
    differences = double(0.4, -0.2, 1.0, 0.1)
    before = loss_at(differences, batch_mean(differences, cap=math.inf))
    after = loss_at(differences + 7.0, batch_mean(differences + 7.0, cap=math.inf))
    torch.testing.assert_close(after, before)


def test_gradient_is_that_of_a_constant_margin() -> None:
    differences = double(0.4, -0.2, 1.0, 0.1).requires_grad_()
    mean = (0.4 - 0.2 + 1.0 + 0.1) / 4
    loss = loss_at(differences, batch_mean(differences)).mean()
    (gradient,) = torch.autograd.grad(loss, differences)
    expected = [-1 / (1 + math.exp(d - mean)) / 4 for d in (0.4, -0.2, 1.0, 0.1)]
    torch.testing.assert_close(gradient, double(*expected), rtol=0, atol=1e-12)
    assert gradient.sum() < -0.4  # with a gradient through the mean it would be exactly 0


def test_threshold_gives_the_margin_to_pairs_below_it_alone() -> None:
    differences = double(0.875, -0.5, 0.375)  # mean .25
    assert batch_threshold(differences).tolist() == [0.0, 0.25, 0.0]
    assert batch_threshold(differences, threshold=0.5).tolist() == [0.0, 0.25, 0.25]
    # mean .1875: capped at .125, the pair of .15625 clears the margin and pays none
    differences = double(0.90625, -0.5, 0.15625)
    assert batch_threshold(differences, cap=0.125).tolist() == [0.0, 0.125, 0.0]


def test_a_threshold_at_either_infinity_is_no_margin_or_the_batch_mean() -> None:
    differences = double(0.9, -0.5, 0.2)
    assert batch_threshold(differences, threshold=-math.inf).tolist() == [0.0, 0.0, 0.0]
    everywhere = batch_threshold(differences, threshold=math.inf)
    assert torch.equal(everywhere, batch_mean(differences))


@pytest.mark.parametrize("margin", BATCH_MARGINS)
def test_a_negative_mean_gives_no_margin(margin: Callable[..., Tensor]) -> None:
    assert margin(double(-2.0, 0.5)).tolist() == [0.0, 0.0]


def test_the_mean_is_capped() -> None:
    assert batch_mean(double(3.0, 5.0)).tolist() == [1.0, 1.0]
    assert batch_mean(double(3.0, 5.0), cap=2.5).tolist() == [2.5, 2.5]
    assert batch_mean(double(3.0, 5.0), cap=math.inf).tolist() == [4.0, 4.0]


def train_free_differences(margin: Callable[[Tensor], Tensor], steps: int = 400) -> Tensor:
    differences = double(0.9, 0.4, -0.3, 0.6).requires_grad_()
    for _ in range(steps):
        loss = loss_at(differences, margin(differences)).sum()
        (gradient,) = torch.autograd.grad(loss, differences)
        differences = (differences - 0.1 * gradient).detach().requires_grad_()
    return differences.detach()


def test_without_a_cap_differences_grow_without_end_and_with_one_they_slow_down() -> None:
    free = train_free_differences(lambda d: batch_mean(d, cap=math.inf))
    capped = train_free_differences(batch_mean)
    plain = train_free_differences(torch.zeros_like)
    assert free.mean() > 19  # .1 * 400 steps * a gradient of at least about 1/2
    assert plain.mean() < capped.mean() < plain.mean() + 1.5


@pytest.mark.parametrize("margin", BATCH_MARGINS)
def test_batch_margins_are_constants_and_follow_the_order_of_the_pairs(
    margin: Callable[..., Tensor],
) -> None:
    differences = double(0.4, -0.2, 1.0).requires_grad_()
    found = margin(differences)
    assert not found.requires_grad
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(margin(differences[order]), found[order])


@pytest.mark.parametrize("margin", BATCH_MARGINS)
def test_bfloat16_differences_are_averaged_in_float32(margin: Callable[..., Tensor]) -> None:
    differences = torch.tensor([0.5] * 300 + [0.25] * 300, dtype=torch.bfloat16)
    found = margin(differences)
    assert found.dtype == torch.float32
    assert found.max().item() == 0.375


@pytest.mark.parametrize("margin", BATCH_MARGINS)
def test_wrong_batch_margins_are_refused(margin: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"shape \[B\]"):
        margin(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="floating point"):
        margin(torch.zeros(3, dtype=torch.long))
    for cap in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidInputError, match="cap"):
            margin(torch.zeros(3), cap=cap)
    with pytest.raises(InvalidInputError, match="threshold"):
        batch_threshold(torch.zeros(3), threshold=math.nan)


def test_no_pairs_have_no_margins_and_one_that_is_not_a_number_shows() -> None:
    assert batch_mean(torch.zeros(0)).shape == (0,)
    assert batch_mean(torch.tensor([math.nan, 1.0])).isnan().all()


def two_ranks(store: Path, shares: list[list[list[float]]]) -> list[list[Any]]:
    """What two real processes find, each with its shares of the batches."""
    command = [sys.executable, str(RANK), str(store)]
    ranks = [
        subprocess.Popen([*command, str(rank), json.dumps(own)], stdout=subprocess.PIPE)
        for rank, own in enumerate(shares)
    ]
    try:
        return [json.loads(process.communicate(timeout=240)[0]) for process in ranks]
    finally:
        for process in ranks:
            process.kill()


def test_two_ranks_with_half_a_batch_each_train_as_one_with_the_whole(tmp_path: Path) -> None:
    """Data-parallel training averages the ranks' gradients; so does the last line."""
    batch = [3.5, -0.25, 0.75, 2.0]  # halves of mean 1.625 and 1.375, whole of mean 1.5
    shares = [[batch[:2], batch[:3]], [batch[2:], batch[3:]]]  # even, then 3 and 1
    (even, uneven), (even_2, uneven_2) = (
        (found[:2], found[2:]) for found in two_ranks(tmp_path / "store", shares)
    )
    differences = torch.tensor(batch, requires_grad=True)
    for index, batch_margin in enumerate(BATCH_MARGINS):
        margin = batch_margin(differences, cap=9.0)
        (gradient,) = torch.autograd.grad(loss_at(differences, margin).mean(), differences)
        assert even[index][0] + even_2[index][0] == pytest.approx(margin.tolist())
        assert uneven[index][0] + uneven_2[index][0] == pytest.approx(margin.tolist())
        halves = torch.tensor(even[index][1] + even_2[index][1])
        torch.testing.assert_close(halves / 2, gradient)
