"""Token rewards and GAE against numbers made by hand and by a loop over a definition."""

from __future__ import annotations

import pytest
import torch

from ppo_worker.advantages import generalised_advantages, token_rewards

ALL = torch.ones(1, 3, dtype=torch.bool)


def random_rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 1, 3, 5])
    mask = torch.arange(5) < lengths.unsqueeze(1)
    return torch.randn(4, 5, generator=numbers), torch.randn(4, 5, generator=numbers), mask


def test_advantages_of_three_tokens_by_hand() -> None:
    # deltas: .6 - .5 = .1, .7 - .6 = .1, 1 - .7 = .3; A_2 = .3, A_1 = .1 + .95 * .3 = .385,
    # A_0 = .1 + .95 * .385 = .46575; returns are A + V
    rewards, values = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.5, 0.6, 0.7]])
    advantages, returns = generalised_advantages(rewards, values, ALL, 1.0, 0.95)
    assert advantages[0].tolist() == pytest.approx([0.46575, 0.385, 0.3], rel=1e-6)
    assert returns[0].tolist() == pytest.approx([0.96575, 0.985, 1.0], rel=1e-6)


def test_lambda_one_gives_the_sum_of_what_comes_less_the_value() -> None:
    rewards, values, mask = random_rows()
    advantages, returns = generalised_advantages(rewards, values, mask, 1.0, 1.0)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        for t in range(length):
            rest = sum(rewards[row, t:length].tolist())
            assert returns[row, t].item() == pytest.approx(rest, abs=1e-5)
            assert advantages[row, t].item() == pytest.approx(
                rest - values[row, t].item(), abs=1e-5
            )


def test_advantages_equal_the_definition_summed_term_by_term() -> None:
    rewards, values, mask = random_rows()
    advantages, _ = generalised_advantages(rewards, values, mask, 0.9, 0.8)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        r, v = rewards[row].tolist(), [*values[row, :length].tolist(), 0.0]
        deltas = [r[t] + 0.9 * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((0.9 * 0.8) ** (i - t) * deltas[i] for i in range(t, length))
            assert advantages[row, t].item() == pytest.approx(expected, abs=1e-5)


def test_padding_has_no_advantage_and_no_part_in_others() -> None:
    rewards, values, mask = random_rows()
    advantages, returns = generalised_advantages(rewards, values, mask, 1.0, 0.95)
    nan = torch.where(mask, 0.0, float("nan"))
    poisoned = generalised_advantages(rewards + nan, values + nan, mask, 1.0, 0.95)
    assert torch.equal(poisoned[0], advantages)
    assert torch.equal(poisoned[1], returns)
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


def test_token_rewards_sum_to_the_reward_less_the_penalty_and_end_with_it() -> None:
    logprobs, ref_logprobs, mask = random_rows()
    rewards = torch.tensor([1.0, -2, 3, 0.5])
    rows = token_rewards(rewards, logprobs, ref_logprobs, mask, 0.1)
    log_ratios = torch.where(mask, logprobs - ref_logprobs, 0.0)
    assert torch.allclose(rows.sum(dim=1), rewards - 0.1 * log_ratios.sum(dim=1), atol=1e-6)
    assert rows[2, 2].item() == pytest.approx(3.0 - 0.1 * log_ratios[2, 2].item())
    assert rows[2, 1].item() == pytest.approx(-0.1 * log_ratios[2, 1].item())
    assert not rows[~mask].any()


def test_identical_policies_pay_no_penalty() -> None:
    logprobs, _, mask = random_rows()
    rows = token_rewards(torch.zeros(4), logprobs, logprobs, mask, 0.5)
    assert not rows.any()


def test_shapes_that_differ_and_empty_completions_are_refused() -> None:
    row = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="shapes differ"):
        generalised_advantages(row, torch.zeros(1, 2), ALL, 1.0, 0.95)
    with pytest.raises(ValueError, match="bool"):
        generalised_advantages(row, row, torch.ones(1, 3), 1.0, 0.95)
    with pytest.raises(ValueError, match="one reward per completion"):
        token_rewards(torch.zeros(2), row, row, ALL, 0.1)
    with pytest.raises(ValueError, match="one token at least"):
        token_rewards(torch.zeros(1), row, row, ~ALL, 0.1)
