"""PPO's losses against numbers made by hand and against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ppo_worker.losses import (
    entropy,
    language_loss,
    masked_mean,
    policy_loss,
    token_logprobs,
    value_loss,
)

ALL = torch.ones(1, 2, dtype=torch.bool)


def row(*values: float) -> Tensor:
    return torch.tensor([values])


def test_identical_policies_have_ratio_one_and_nothing_clipped() -> None:
    logprobs, advantages = row(-1.0, -2.0), row(0.3, -0.7)
    loss, clipped = policy_loss(logprobs, logprobs, advantages, ALL, 0.2)
    assert loss.item() == pytest.approx(0.2)  # -(.3 - .7) / 2
    assert clipped.item() == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 1.0, -1.2, 1.0),  # better and already far up: no further
        (1.5, -1.0, 1.5, 0.0),  # worse and gone up: all of it counts
        (0.5, 1.0, -0.5, 0.0),
        (0.5, -1.0, 0.8, 1.0),
        (1.1, 2.0, -2.2, 0.0),
    ],
)
def test_the_policy_loss_takes_the_worse_of_free_and_clipped(
    ratio: float, advantage: float, loss: float, clipped: float
) -> None:
    new, one = row(math.log(ratio)), ALL[:, :1]
    got = policy_loss(new, row(0.0), row(advantage), one, 0.2)
    assert got.loss.item() == pytest.approx(loss, rel=1e-6)
    assert got.clip_fraction.item() == clipped


def test_a_clipped_token_gives_no_gradient_and_a_better_one_is_made_likelier() -> None:
    logprobs = row(math.log(1.5), 0.0).requires_grad_()
    policy_loss(logprobs, row(0.0, 0.0), row(1.0, 1.0), ALL, 0.2).loss.backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    assert logprobs.grad[0].tolist() == [0.0, -0.5]


@pytest.mark.parametrize(
    ("value", "old", "target", "loss"),
    [
        (1.0, 0.0, 1.0, 0.32),  # clipped to .2: .5 * (.2 - 1)^2, worse than 0
        (0.1, 0.0, 1.0, 0.405),  # in range: .5 * .9^2
        (-1.0, 0.0, 1.0, 2.0),  # away from the target: .5 * 2^2, worse than .5 * 1.2^2
    ],
)
def test_the_value_loss_takes_the_worse_of_free_and_clipped(
    value: float, old: float, target: float, loss: float
) -> None:
    got = value_loss(row(value), row(old), row(target), ALL[:, :1], 0.2)
    assert got.item() == pytest.approx(loss, rel=1e-6)


def test_padding_contributes_nothing_not_even_when_it_is_nan() -> None:
    mask = torch.tensor([[True, False]])
    bad = float("nan")
    got = policy_loss(row(0.0, bad), row(0.0, bad), row(2.0, bad), mask, 0.2)
    assert got.loss.item() == -2.0
    assert value_loss(row(1.0, bad), row(1.0, 0.0), row(3.0, bad), mask, 9.0).item() == 2.0
    assert masked_mean(row(4.0, bad), mask).item() == 4.0


def test_logprobs_and_entropy_of_a_known_distribution() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]]))
    got = token_logprobs(logits, torch.tensor([[0, 2]]))
    assert got[0].tolist() == pytest.approx([math.log(0.5), math.log(1 / 3)], rel=1e-6)
    assert entropy(logits)[0].tolist() == pytest.approx([1.5 * math.log(2), math.log(3)], rel=1e-6)


def test_the_language_loss_is_the_mean_over_tokens_that_follow_another() -> None:
    # two words, p(1) = 3/4 everywhere; the first text has two such tokens, the second one of the
    # other word and then padding
    logits = torch.tensor([0.0, math.log(3)]).expand(2, 3, 2)
    ids, mask = torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = -(2 * math.log(0.75) + math.log(0.25)) / 3
    assert language_loss(logits, ids, mask).item() == pytest.approx(expected, rel=1e-6)
