from __future__ import annotations

import numpy as np
import pytest

from reward_trainer.evaluate.accuracy import accuracy_by_subset, compare_by_subset
from reward_trainer.evaluate.statistics import Part, Roots, right
from reward_trainer.evaluate.tables import markdown_table, share


def test_a_tie_counts_half() -> None:
    assert right(np.array([2.0, -0.1, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_intervals_resample_roots_not_pairs() -> None:
    values = np.array([1.0] * 50 + [0.0] * 50)
    estimate = Roots.of(["a"] * 50 + ["b"] * 50).mean(values)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_the_bootstrap_equals_an_independent_loop_over_roots() -> None:
    random = np.random.default_rng(5)
    names = [f"r{number}" for number in random.integers(30, size=200)]
    values = random.normal(size=200)
    estimate = Roots.of(names).mean(values)
    by_root = {name: [v for v, n in zip(values, names, strict=True) if n == name] for name in names}
    distinct = list(by_root)
    means = []
    for _ in range(4000):
        drawn = [by_root[distinct[i]] for i in random.integers(len(distinct), size=len(distinct))]
        means.append(np.mean([value for root in drawn for value in root]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert estimate.value == pytest.approx(float(values.mean()))
    assert estimate.low == pytest.approx(low, abs=0.02)
    assert estimate.high == pytest.approx(high, abs=0.02)


def test_one_root_has_no_interval() -> None:
    roots = Roots.of(["only", "only"])
    for values in ([1.0, 0.0], [1.0, 1.0]):
        estimate = roots.share(np.array(values))
        assert (estimate.value, estimate.low, estimate.high) == (sum(values) / 2, None, None)


def test_a_share_without_any_miss_has_the_exact_binomial_bound() -> None:
    """No resample of eight hits differs; P(8 hits of 8) = .025 at p = .025^(1/8) = .6306."""
    roots = Roots.of(list("abcdefgh"))
    hits, misses = roots.share(np.ones(8)), roots.share(np.zeros(8))
    assert (hits.value, hits.high) == (1.0, 1.0)
    assert hits.low == pytest.approx(0.6306, abs=1e-4)
    assert misses.high == pytest.approx(1 - 0.6306, abs=1e-4)


def test_a_weighted_mean_is_the_sum_of_its_parts() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    first, second = np.array([True, True, False, False]), np.array([False, False, True, True])
    parts = [Part(0.25, values, first), Part(0.75, values, second)]
    assert Roots.of(list("abcd")).weighted(parts).value == 0.25 * 0.5 + 0.75 * 1.0


def test_accuracy_by_hand() -> None:
    (row,) = accuracy_by_subset(
        ["s"] * 4, ["r1", "r1", "r2", "r3"], np.array([3, 5, -10, 6.0]), np.array([1.0, -1, 2, 0])
    )
    assert (row.pairs, row.roots, row.ties) == (4, 3, 1)
    assert row.accuracy.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert (row.prefers, row.length_rule.value) == ("longer", 0.75)
    assert row.gain.value == pytest.approx(0.625 - 0.75)
    assert row.longer_loses is not None
    assert (row.longer_loses.value, row.longer_loses_pairs) == (1.0, 1)


def test_the_length_rule_prefers_the_shorter_text_where_that_is_better() -> None:
    extra = np.array([-1.0, -4.0, 2.0, 0.0])  # longer is right in one, half right in the last
    (row,) = accuracy_by_subset(["s"] * 4, list("abcd"), extra, np.array([1.0, 1, 1, 1]))
    assert (row.prefers, row.length_rule.value) == ("shorter", 1 - 1.5 / 4)
    assert row.gain.value == pytest.approx(1.5 / 4)


def test_no_pair_with_a_longer_loser_is_said() -> None:
    (row,) = accuracy_by_subset(["s"] * 2, ["a", "b"], np.ones(2), np.ones(2))
    assert row.longer_loses is None
    assert "no such pair" in markdown_table([row])


def test_several_subsets_get_a_row_each_and_one_for_all() -> None:
    rows = accuracy_by_subset(["x", "y", "x"], list("abc"), np.ones(3), np.array([1.0, -1.0, 1.0]))
    assert [(row.subset, row.pairs, row.accuracy.value) for row in rows] == [
        ("x", 2, 1.0),
        ("y", 1, 0.0),
        ("all", 3, pytest.approx(2 / 3)),
    ]


def test_a_comparison_is_paired() -> None:
    """Each model is right on half; they differ by a constant on no root: the interval is 0 wide."""
    random = np.random.default_rng(0)
    earned = random.integers(2, size=60).astype(float)
    roots = [f"r{i // 2}" for i in range(60)]
    (same,) = compare_by_subset(["s"] * 60, roots, earned, earned)
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)
    (other,) = compare_by_subset(["s"] * 60, roots, np.ones(60), earned)
    wins = int((earned == 0).sum())
    assert (other.only_first, other.only_second) == (wins, 0)
    assert other.difference.value == pytest.approx(wins / 60)
    assert other.difference.low is not None
    assert 0 < other.difference.low < other.difference.value


def test_the_table_has_three_digits_and_signs() -> None:
    (row,) = accuracy_by_subset(
        ["a|b"] * 4, list("abcd"), np.array([1.0, 1, -1, -1]), np.array([1.0, 1, 1, -1])
    )
    header, rule, body = markdown_table([row], "source").splitlines()
    assert header.startswith("| source | pairs | roots | accuracy | longer or shorter | difference")
    assert rule.startswith("| --- | ---: |")
    assert body.startswith("| a\\|b | 4 | 4 | .750 [.250, 1.000] | longer .500 [")
    assert [share(x, "+") for x in (-0.05, 0.0, 1.0, -1.25)] == [
        "-.050",
        "+.000",
        "+1.000",
        "-1.250",
    ]
