"""The facts of contrastive rewards that trainers rely on; `assay.rewards` makes the rewards."""

from __future__ import annotations

import numpy as np
import pytest

from assay.rewards.contrastive import contrastive


@pytest.mark.parametrize(("k", "variance"), [(1, 2.0), (4, 1.25)])
def test_noise_grows_by_one_over_the_number_of_baselines(k: int, variance: float) -> None:
    """Scores of variance .25 between prompts and 1 within: 1.25 before, 1 + 1/k after."""
    random = np.random.default_rng(0)
    prompts = random.normal(0, 0.5, 40_000)
    scores = prompts + random.normal(0, 1, 40_000)
    baselines = prompts + random.normal(0, 1, (k, 40_000))
    assert scores.var() == pytest.approx(1.25, rel=0.03)
    rewards = contrastive(scores[None], baselines)  # prompts stand where members do
    assert rewards.var() == pytest.approx(variance, rel=0.03)


def test_an_offset_of_a_prompt_cancels_and_a_scale_does_not() -> None:
    scores, baselines = np.array([[2.0]]), np.array([[1.0], [0.5], [1.5], [1.0], [1.0]])
    assert contrastive(3 * scores + 7, 3 * baselines + 7).tolist() == [[3.0]]


def test_baselines_in_any_order_give_the_same() -> None:
    scores, baselines = np.array([[2.0], [0.5]]), np.array([[1.0], [0.5], [4.0]])
    assert (contrastive(scores, baselines[[2, 0, 1]]) == contrastive(scores, baselines)).all()


def test_the_sigmoid_shape_grows_with_the_score() -> None:
    scores, baselines = np.linspace(-3, 3, 7)[:, None], np.array([[1.0], [-0.5]])
    assert (np.diff(contrastive(scores, baselines, shape="sigmoid"), axis=0) > 0).all()


def test_noisy_binary_rewards_keep_their_sign_and_lose_their_bias() -> None:
    """E[r | x] = (1 - c0 - c1) (E[r*(y)] - E[r*(base)]), for c0 = .1, c1 = .3: .6 * (.9 - .5)."""
    random = np.random.default_rng(1)

    def noisy(good: float, count: int) -> np.ndarray:
        truth = random.random((count, 1)) < good
        return np.where(truth, random.random((count, 1)) >= 0.3, random.random((count, 1)) < 0.1)

    rewards = contrastive(noisy(0.9, 60_000).astype(float), noisy(0.5, 60_000).astype(float))
    assert rewards.mean() == pytest.approx(0.24, abs=0.01)
