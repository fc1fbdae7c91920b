from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.engine.plan import plan_batch, plan_window

lengths = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@given(lengths, st.integers(1, 2000))
def test_a_batch_holds_the_first_text_once_and_fits_the_budget(
    lengths: list[int], budget: int
) -> None:
    batch = plan_batch(lengths, budget)
    assert 0 in batch
    assert len(set(batch)) == len(batch)
    assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(lengths, st.integers(1, 2000))
def test_a_window_is_scored_completely_and_once(lengths: list[int], budget: int) -> None:
    batches = plan_window(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([10], 5, [0]),  # over the budget alone: it must not wait for ever
        ([10, 10, 10, 10], 30, [0, 1, 2]),
        ([10, 500, 11, 9], 1000, [3, 0, 2]),  # 4 x 500 would be 2000
        ([10, 500], 1000, [0, 1]),
        ([500, 10, 490, 20], 1000, [2, 0]),  # the neighbour in length, not in arrival
        ([10, 11], 21, [0]),  # 2 x 11 is one too many
        ([10, 11], 22, [0, 1]),
    ],
)
def test_like_lengths_go_together(lengths: list[int], budget: int, expected: list[int]) -> None:
    assert plan_batch(lengths, budget) == expected


def test_sorting_by_length_saves_padding() -> None:
    lengths = [10, 200] * 16
    planned = plan_window(lengths, 800)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in planned)
    assert padded == sum(lengths)  # no padding at all: 10s with 10s, 200s with 200s
