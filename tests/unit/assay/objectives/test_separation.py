from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from assay.objectives.separation import normalised_separation, separation


def scores(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def gradient(values: Tensor) -> Tensor:
    values = values.clone().requires_grad_()
    return torch.autograd.grad(separation(values).sum(), values)[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 1.0), 0.3655292893),
        ((0.0, 1.0, 2.0), 0.5206476078),
        ((0.3, -1.2, 2.0, 0.9, 0.9000001), 0.6158066167),
    ],
)
def test_separation_to_ten_digits(values: tuple[float, ...], expected: float) -> None:
    assert separation(scores(*values)).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("k", "lowest"), [(2, 0.25), (3, 1 / 3), (4, 0.375), (5, 0.4), (8, 0.4375)]
)
def test_bounds_depend_on_k_and_normalised_ones_do_not(k: int, lowest: float) -> None:
    equal = torch.full((1, k), 1.7, dtype=torch.float64)
    far = 1000.0 * torch.arange(k, dtype=torch.float64)[None]
    assert separation(equal).item() == pytest.approx(lowest, abs=1e-12)
    assert separation(far).item() == pytest.approx((k - 1) / k, abs=1e-12)
    assert normalised_separation(equal).item() == pytest.approx(0.0, abs=1e-12)
    assert normalised_separation(far).item() == pytest.approx(1.0, abs=1e-12)


def test_normalised_separation_is_the_mean_of_tanh_over_pairs() -> None:
    values = (0.3, -1.2, 2.0, 0.9)
    by_hand = [math.tanh(abs(a - b) / 2) for a, b in combinations(values, 2)]
    found = normalised_separation(scores(*values)).item()
    assert found == pytest.approx(sum(by_hand) / 6, abs=1e-12)


def test_prompts_are_kept_apart() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    assert separation(values).tolist() == pytest.approx([0.5206476078, 1 / 3], abs=1e-10)


def test_a_prompts_offset_and_the_order_of_completions_change_nothing() -> None:
    values = scores(0.3, -1.2, 2.0, 0.9)
    torch.testing.assert_close(separation(values + 40.0), separation(values))
    torch.testing.assert_close(separation(values.flip(1)), separation(values))


def test_a_larger_scale_separates_more() -> None:
    values = scores(0.3, -1.2, 2.0, 0.9)
    found = [separation(a * values).item() for a in (0.5, 1.0, 1.1, 3.0)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_gradient_by_hand() -> None:
    values = (0.3, -1.2, 2.0, 0.9)

    def slope(d: float) -> float:
        p = 1 / (1 + math.exp(-abs(d)))
        return p * (1 - p) * math.copysign(1.0, d)

    by_hand = [2 / 16 * sum(slope(a - b) for b in values if b != a) for a in values]
    found = gradient(scores(*values))
    assert found[0].tolist() == pytest.approx(by_hand, abs=1e-12)
    assert found.sum().item() == pytest.approx(0.0, abs=1e-12)


def test_one_step_up_the_gradient_of_a_scalar_model() -> None:
    """r = theta * phi with theta = .5, a feature difference of 2, step .1."""
    theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    objective = separation(theta * scores(0.0, 2.0)).mean()
    (slope,) = torch.autograd.grad(objective, theta)
    assert slope.item() == pytest.approx(0.1966119332, abs=1e-10)
    assert (theta + 0.1 * slope).item() == pytest.approx(0.5196611933, abs=1e-10)


def test_equal_scores_stay_where_they_are() -> None:
    assert gradient(scores(2.0, 2.0, 2.0)).tolist() == [[0.0, 0.0, 0.0]]


def test_bfloat16_scores_are_compared_in_float32() -> None:
    values = scores(0.5, -1.25, 2.0).to(torch.bfloat16)
    found = separation(values)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, separation(values.float()))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 0), (2, 3, 4)])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    for measure in (separation, normalised_separation):
        with pytest.raises(ValueError, match="k >= 2"):
            measure(torch.zeros(shape))


def test_scores_that_are_not_floating_point_are_refused() -> None:
    with pytest.raises(ValueError, match="floating point"):
        separation(torch.zeros(2, 3, dtype=torch.long))
