from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from assay.errors import DataError
from reward_trainer.evaluate.agreement import choices, measure_raters, read_labels

NAN = float("nan")


def test_labels_are_read_in_every_spelling() -> None:
    values = [1, 0, -1, None, True, False, "chosen", "rejected", 1.0, NAN]
    expected = [1, 0, NAN, NAN, 1, 0, 1, 0, 1, NAN]
    np.testing.assert_array_equal(read_labels("gpt4", values), expected)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([1, 0, 2], "row 3: column 'gpt4' holds '2'"),
        (["chosen", "A"], "row 2: column 'gpt4' holds 'A'"),
        ([1, 0, 0.3], "row 3: column 'gpt4' holds '0.3'"),
        ([["1", "2"]], "row 1: column 'gpt4' holds"),
        ([-1, None], "holds no label"),
        ([1, 1, -1], "one class only: every label says chosen"),
        ([0, 0], "one class only: every label says rejected"),
    ],
)
def test_wrong_labels_are_named(values: list[Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_labels("gpt4", values)


def test_a_model_that_scores_both_alike_gives_no_label() -> None:
    np.testing.assert_array_equal(choices(np.array([0.2, -3.0, 0.0])), [1, 0, NAN])


def test_kappa_and_agreement_equal_scikit_learns() -> None:
    random = np.random.default_rng(7)
    a = (random.random(300) < 0.8).astype(float)
    b = np.where(random.random(300) < 0.75, a, 1 - a)
    c = (random.random(300) < 0.6).astype(float)
    a[:20], c[10:40] = NAN, NAN
    raters = {"a": a, "b": b, "c": c}
    rows, pairs = measure_raters(raters, [str(i) for i in range(300)])
    assert [(row.name, row.pairs) for row in rows] == [("a", 280), ("b", 300), ("c", 270)]
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in pairs:
        x, y = raters[pair.first], raters[pair.second]
        both = ~np.isnan(x) & ~np.isnan(y)
        assert pair.pairs == both.sum()
        assert pair.agreement is not None
        assert pair.agreement.value == pytest.approx((x[both] == y[both]).mean())
        assert pair.kappa is not None
        assert pair.kappa.low is not None
        assert pair.kappa.high is not None
        assert pair.kappa.value == pytest.approx(cohen_kappa_score(x[both], y[both]))
        assert pair.kappa.low < pair.kappa.value < pair.kappa.high


def test_kappa_by_hand_from_the_table_of_cohen() -> None:
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: agreement .7, chance .5 * .6 + .5 * .4 = .5."""
    first = np.array([1.0] * 25 + [0.0] * 25)
    second = np.array([1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15)
    _, (pair,) = measure_raters({"x": first, "y": second}, [str(i) for i in range(50)])
    assert pair.chance == pytest.approx(0.5)
    assert pair.kappa is not None
    assert pair.kappa.value == pytest.approx(0.4)


def test_kappa_is_undefined_against_a_rater_with_one_answer() -> None:
    """Data in which `chosen` is always right tell a model's agreement and no kappa."""
    rows, (pair,) = measure_raters(
        {"always": np.ones(4), "model": np.array([1.0, 0, 1, 1])}, list("abcd")
    )
    assert rows[0].says_chosen.value == 1.0
    assert pair.agreement is not None
    assert (pair.agreement.value, pair.kappa) == (0.75, None)


def test_raters_without_a_common_pair() -> None:
    _, (pair,) = measure_raters(
        {"a": np.array([1.0, 0, NAN, NAN]), "b": np.array([NAN, NAN, 1.0, 0])}, list("abcd")
    )
    assert (pair.pairs, pair.agreement, pair.kappa) == (0, None, None)
