"""Text-blind strengths of texts, from who beat whom."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from reproduction.pair_graph import bradley_terry, pair_graph_differences


def test_strengths_of_two_texts_solve_the_posterior() -> None:
    # One beats two three times: by symmetry theta = (t, -t), and the slope of
    # 3 softplus(-2t) + t^2 is zero where t = 3 sigmoid(-2t); solved by bisection.
    low, high = 0.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 3 / (1 + np.exp(2 * middle)) else (low, middle)

    assert bradley_terry([0, 0, 0], [1, 1, 1], 2) == pytest.approx([low, -low], abs=1e-6)


def test_no_comparison_leaves_the_prior() -> None:
    assert bradley_terry([], [], 3).tolist() == [0.0, 0.0, 0.0]


def table(rows: list[tuple[str, str]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"prompt": "p", "chosen": a, "rejected": b, "root": "r"} for a, b in rows]
    )


def everyone_beats_the_next(texts: int) -> list[tuple[str, str]]:
    return [(f"t{i}", f"t{j}") for i in range(texts) for j in range(i + 1, texts)]


def test_a_pair_is_judged_by_the_other_pairs_alone() -> None:
    rows = everyone_beats_the_next(8)
    last = rows.index(("t0", "t7"))
    turned = [row[::-1] if place == last else row for place, row in enumerate(rows)]

    before, after = pair_graph_differences(table(rows)), pair_graph_differences(table(turned))

    assert before[last] > 0
    assert after[last] == pytest.approx(-before[last], abs=1e-6)


def test_a_turned_label_stands_out_of_a_consistent_order() -> None:
    rows = everyone_beats_the_next(10)
    rows[4] = rows[4][::-1]

    differences = pair_graph_differences(table(rows))

    assert int(differences.argmin()) == 4


def test_texts_that_were_judged_once_say_nothing() -> None:
    rows = [("a", "b"), ("c", "d"), ("e", "f")]

    assert pair_graph_differences(table(rows)).tolist() == pytest.approx([0.0, 0.0, 0.0])
