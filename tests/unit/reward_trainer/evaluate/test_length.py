from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from reward_trainer.evaluate.length import ranks, score_by_length, spearman

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scipy.stats import rankdata, spearmanr


def whole(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    return random.integers(0, 12, size=size).astype(float)


def test_ranks_and_their_correlation_equal_scipys() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = whole(random, 40), whole(random, 40)
        assert ranks(a).tolist() == rankdata(a).tolist()
        assert spearman(a, b) == pytest.approx(float(spearmanr(a, b).statistic))


def test_a_flat_side_has_no_correlation() -> None:
    assert spearman(np.ones(4), np.arange(4.0)) is None


def test_within_pairs_a_prompts_own_offset_does_not_count() -> None:
    """Scores rise with length inside each pair; the prompts' offsets turn it round over texts."""
    lengths = np.array([1.0, 2.0, 11.0, 12.0])
    scores = np.array([10.0, 10.5, 0.0, 0.5])
    found = score_by_length(
        scores, lengths, np.array([0.5, -0.5]), np.array([1.0, -1.0]), ["a", "b"]
    )
    assert found.correlation == pytest.approx(float(spearmanr(scores, lengths).statistic))
    assert found.correlation is not None
    assert found.correlation < 0
    assert found.within_pairs == pytest.approx(1.0)


def test_how_often_the_longer_text_is_preferred_by_hand() -> None:
    differences = np.array([1.0, 1.0, -1.0, 0.0, 1.0])
    extra = np.array([5.0, -5.0, 5.0, 5.0, 0.0])  # the last pair has equal lengths
    found = score_by_length(np.arange(10.0), np.arange(10.0), differences, extra, list("abcde"))
    assert found.prefers_longer is not None
    assert found.longer_wins is not None
    assert found.prefers_longer.value == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert found.longer_wins.value == pytest.approx(3 / 4)


def test_bins_hold_fifths_from_short_to_long() -> None:
    lengths, scores = np.array([50.0, 10, 40, 20, 30]), np.array([5.0, 1, 4, 2, 3])
    found = score_by_length(scores, lengths, np.ones(2), np.ones(2), ["a", "b"])
    assert [(row.shortest, row.longest, row.mean) for row in found.bins] == [
        (10 * i, 10 * i, float(i)) for i in range(1, 6)
    ]


def test_pairs_of_equal_length_only() -> None:
    found = score_by_length(np.arange(2.0), np.ones(2), np.ones(2), np.zeros(2), ["a", "b"])
    assert found.prefers_longer is None
    assert found.correlation is None
    assert found.within_pairs is None
