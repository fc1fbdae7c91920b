from __future__ import annotations

from random import Random

import pytest

from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.sampling import (
    balanced_weights,
    pack,
    pair_weights,
    prompt_groups,
    step_count,
)


def pair(prompt: str = "p", chosen: str = "a", rejected: str = "b", **rest: float) -> Pair:
    return Pair("s", 1, "", prompt, chosen, rejected, **rest)  # type: ignore[arg-type]


def test_balanced_weights_make_length_predict_nothing() -> None:
    extra = [5, 3, 8, -2, 0]  # three longer win, one loses, one tie
    weights = balanced_weights(extra, 1.0)
    assert sum(weights[:3]) == pytest.approx(weights[3])
    assert balanced_weights(extra, 0.0) == [1.0] * 5
    assert balanced_weights([1, 2], 1.0) == [1.0, 1.0]


def test_the_weights_of_a_source_add_up_to_its_texts() -> None:
    pairs = [pair(), pair(), pair(weight=2.0)]
    # Three texts in three pairs of weight 1, 1 and 2: 3 / 4 a unit.
    assert pair_weights(pairs, [(0, 1), (1, 2), (0, 2)], 0.0) == [0.75, 0.75, 1.5]


def test_the_pairs_of_a_prompt_stay_together_unless_they_are_too_many() -> None:
    pairs = [pair("p"), pair("q"), pair("p"), pair("q")]
    sides = [(0, 1), (2, 3), (0, 4), (5, 6)]
    tokens = [10] * 7
    assert prompt_groups(pairs, sides, tokens, 100) == [[0, 2], [1, 3]]
    # A limit of 4 x 7 = 28 tokens holds two texts: (2, 3) and (5, 6) do not fit together.
    assert prompt_groups(pairs, sides, tokens, 7) == [[0], [2], [1], [3]]


def test_a_cut_group_takes_all_pairs_among_its_texts() -> None:
    pairs = [pair()] * 4
    sides = [(0, 1), (2, 3), (1, 2), (0, 2)]
    groups = prompt_groups(pairs, sides, [10] * 4, 8)  # 32 tokens: three texts
    assert groups == [[0, 2, 3], [1]]


def test_an_epoch_goes_over_a_source_as_often_as_it_says() -> None:
    assert prompt_groups([pair()], [(0, 1)], [1, 1], 100, {"s": 3}) == [[0], [0], [0]]


def test_every_epoch_has_as_many_steps_of_like_size() -> None:
    groups = [[i] for i in range(50)]
    sizes = [Random(i).randint(10, 100) for i in range(50)]
    steps = step_count(groups, sizes, 300)
    assert steps == -(-sum(sizes) // 300)
    for epoch in range(3):
        packed = pack(groups, sizes, steps, Random(epoch))
        assert sorted(row for step in packed for row in step) == list(range(50))
        loads = [sum(sizes[row] for row in step) for step in packed]
        assert max(loads) - min(loads) <= 100
    assert pack(groups, sizes, steps, Random(0)) != pack(groups, sizes, steps, Random(1))
    assert pack(groups, sizes, steps, Random(0)) == pack(groups, sizes, steps, Random(0))


def test_there_are_no_more_steps_than_groups() -> None:
    assert step_count([[0], [1]], [1000, 1000], 10) == 2
    assert step_count([[0]], [1], 10) == 1
