"""Each rule on numbers that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reward_trainer.evaluate.statistics import Roots
from reward_trainer.gate import rules


def clusters(number: int, each: int = 1) -> Roots:
    return Roots.of([f"prompt {index}" for index in range(number) for _ in range(each)])


def ranked(right: int, of: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([1.0] * right + [0.0] * (of - right))


def test_a_score_that_is_no_number_is_counted_and_fails() -> None:
    scores = np.array([[0.0, 1.0], [math.nan, 1.0], [0.0, math.inf], [2.0, 3.0]])

    result = rules.finite(scores)

    assert not result.passed
    assert result.value == 2
    assert rules.finite(scores[:1]).passed


@pytest.mark.parametrize(("pairs", "passed"), [(1499, False), (1500, True)])
def test_fewer_than_1500_pairs_leave_the_promotion_to_a_person(pairs: int, passed: bool) -> None:
    result = rules.enough_pairs(pairs)

    assert (result.passed, result.on_failure) == (passed, "manual")


def test_the_bound_of_the_drop_is_that_of_the_normal_distribution_where_that_holds() -> None:
    # 30 of 2,000 pairs lost and 10 won, each pair a prompt: drop .01, variance of a pair's
    # difference (30 + 10) / 2000 - .01^2 = .0199, standard error sqrt(.0199 / 2000) = .003154.
    parent = ranked(1500, 2000)
    candidate = parent.copy()
    candidate[:30], candidate[1990:] = 0.0, 1.0

    result = rules.accuracy_drop("parent", candidate, parent, clusters(2000), 0.02)

    expected = 0.01 + stats.norm.ppf(0.95) * math.sqrt(0.0199 / 2000)
    assert result.value == pytest.approx(expected, abs=4e-4)
    assert result.passed
    assert "accuracy 0.7400, parent 0.7500" in result.detail


def test_a_drop_that_may_be_two_points_fails_though_it_is_measured_as_less() -> None:
    parent = ranked(150, 200)
    candidate = parent.copy()
    candidate[:2] = 0.0  # a drop of one point, on 200 pairs: at most 2 or more

    assert not rules.accuracy_drop("parent", candidate, parent, clusters(200), 0.02).passed


def test_pairs_of_one_prompt_are_one_draw() -> None:
    """The same pairs in 20 prompts that stand and fall as a whole are worth 20."""
    parent, candidate = np.ones(2000), np.ones(2000)
    candidate[:100] = 0.0  # all pairs of one prompt of twenty

    alone = rules.accuracy_drop("parent", candidate, parent, clusters(2000), 0.03).value
    together = rules.accuracy_drop("parent", candidate, parent, clusters(20, 100), 0.03).value

    # The number of times that a prompt in twenty is drawn is binomial(20, 1/20) with 95 % point 3.
    assert together == pytest.approx(stats.binom.ppf(0.95, 20, 1 / 20) / 20)
    assert alone == pytest.approx(0.05 + 1.645 * math.sqrt(0.05 * 0.95 / 2000), abs=1e-3)


def test_a_candidate_that_ranks_every_pair_as_its_parent_has_no_drop() -> None:
    parent = ranked(90, 100)

    assert rules.accuracy_drop("parent", parent, parent, clusters(100), 0.02).value == 0.0


def test_pairs_of_one_prompt_show_nothing_and_a_person_decides() -> None:
    result = rules.accuracy_drop("anchor", np.ones(5), np.ones(5), clusters(1, 5), 0.03)

    assert (result.passed, result.value, result.on_failure) == (False, None, "manual")


def test_separation_is_the_normalised_j_of_each_member() -> None:
    # k = 3, scores 0 1 2: J = .5206476078 (methods), between 1/3 and 2/3; k = 2, scores 0 1:
    # J = .3655292893, between 1/4 and 1/2. The second member has equal scores.
    scores = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])

    found = rules.group_separation(scores, [np.array([0, 1, 2]), np.array([0, 1])])

    assert found == pytest.approx([(0.5206476078 * 3 - 1) / 2, (0.3655292893 * 4 - 1) / 2])
    assert rules.separation(found, found, found).value == pytest.approx(found.mean())


def test_differences_are_relative_to_the_std_of_each_member() -> None:
    # Reference scores -1 1 and -10 10: std 1 and 10. Group 0 3 6: differences 3 6 3, mean 4.
    scores = np.array([[-1.0, -10.0], [1.0, 10.0], [0.0, 0.0], [3.0, 30.0], [6.0, 60.0]])

    found = rules.group_differences(scores, [np.array([2, 3, 4])], np.array([0, 1]))

    assert found == pytest.approx([4.0])


@pytest.mark.parametrize(("share", "passed"), [(0.60, False), (0.68, True), (1.8, True)])
def test_groups_that_move_together_fail_and_those_that_part_do_not(
    share: float, passed: bool
) -> None:
    anchor = np.linspace(0.5, 1.5, 50)

    result = rules.relative_difference(share * anchor, anchor, clusters(50))

    assert result.value == pytest.approx(share)
    assert result.passed is passed


def test_a_fall_of_differences_must_be_shown() -> None:
    anchor = np.ones(4)
    candidate = np.array([0.1, 0.1, 0.1, 1.6])  # the mean falls to .475, by groups that differ

    assert rules.relative_difference(candidate, anchor, clusters(4)).passed
    assert not rules.relative_difference(np.full(4, 0.475), anchor, clusters(4)).passed


@pytest.mark.parametrize(("shift", "passed"), [(0.99, True), (1.01, False), (-1.01, False)])
def test_the_mean_may_move_by_half_a_standard_deviation(shift: float, passed: bool) -> None:
    anchor = np.array([-2.0, 2.0, -2.0, 2.0])  # std 2

    result = rules.score_mean(anchor + shift, anchor, 2.0, "texts")

    assert result.value == pytest.approx(shift / 2)
    assert result.passed is passed


@pytest.mark.parametrize(("scale", "passed"), [(0.66, False), (0.68, True), (1.49, True)])
def test_the_scale_may_change_by_half(scale: float, passed: bool) -> None:
    anchor = np.array([-1.0, 0.0, 4.0])

    assert rules.score_std(scale * anchor + 7.0, anchor).passed is passed
    assert not rules.score_std(1.51 * anchor, anchor).passed


def test_an_anchor_with_equal_scores_is_no_scale() -> None:
    results = [
        rules.score_mean(np.ones(3), np.ones(3), 0.0, "texts"),
        rules.score_std(np.ones(3), np.ones(3)),
        rules.relative_difference(np.ones(3), np.zeros(3), clusters(3)),
    ]

    assert [(r.passed, r.value, r.on_failure) for r in results] == [(False, None, "manual")] * 3


def test_length_counts_within_prompts_by_spearman() -> None:
    # Five texts of one prompt, against scipy; the second prompt's offset of 100 does not count,
    # and the third, whose texts are of one length, is left out.
    lengths = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 5.0, 9.0, 7.0, 7.0])
    scores = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 100.0, 99.0, 0.0, 1.0])
    prompts = [np.arange(5), np.array([5, 6]), np.array([7, 8])]

    found = rules.within_prompts(scores, lengths, prompts)

    first = stats.spearmanr(scores[:5], lengths[:5]).statistic  # .8
    assert found == pytest.approx((4 * first - 1) / 5)


@pytest.mark.parametrize(("swap", "passed"), [(0, True), (1, False)])
def test_going_by_length_more_than_the_anchor_fails(swap: int, passed: bool) -> None:
    # Ten prompts of two texts; the anchor prefers the longer in 5 and the shorter in 5: 0. One
    # prompt more gives (6 - 4) / 10 = +.2, above +.1.
    lengths = np.tile([10.0, 20.0], 10)
    anchor = np.concatenate([np.tile([0.0, 1.0], 5), np.tile([1.0, 0.0], 5)])
    candidate = np.concatenate([np.tile([0.0, 1.0], 5 + swap), np.tile([1.0, 0.0], 5 - swap)])
    prompts = [np.array([2 * i, 2 * i + 1]) for i in range(10)]

    result = rules.length_correlation(candidate, anchor, lengths, prompts)

    assert result.value == pytest.approx(0.2 * swap)
    assert result.passed is passed


def test_texts_of_one_length_say_nothing_of_length() -> None:
    result = rules.length_correlation(np.arange(2.0), np.arange(2.0), np.ones(2), [np.arange(2)])

    assert (result.passed, result.value, result.on_failure) == (False, None, "manual")


def test_a_probe_fails_only_those_that_it_shows_to_be_worse() -> None:
    parent = ranked(30, 40)
    slightly = parent.copy()
    slightly[0] = 0.0
    results = {
        name: rules.probe_drop("parent", candidate, parent, clusters(40), 0.02)
        for name, candidate in {"same": parent, "slightly": slightly, "not": 1 - parent}.items()
    }

    assert {name: result.passed for name, (result, _) in results.items()} == {
        "same": True,
        "slightly": True,
        "not": False,
    }
    assert {name: shown for name, (_, shown) in results.items()} == {
        "same": True,
        "slightly": False,
        "not": False,
    }


def test_a_probe_of_one_prompt_shows_nothing() -> None:
    result, shown = rules.probe_drop("anchor", np.zeros(3), np.ones(3), clusters(1, 3), 0.03)

    assert result.passed
    assert not shown
