import math

import pytest

from ppo_worker.demo.measuring import copied, repetition


def test_repetition_counts_what_occurred_earlier_in_the_same_text() -> None:
    # abcd bcda cdab dabc abcd: one of five is a repeat; the other text has none.
    assert repetition(["a b c d a b c d"]) == pytest.approx(1 / 5)
    assert repetition(["a b c d a b c d", "A, b c D!"]) == pytest.approx(1 / 6)
    assert math.isnan(repetition(["too short"]))


def test_copied_is_the_share_of_8_grams_that_were_trained_on() -> None:
    training = ["x 1 2 3 4 5 6 7 8", "2 3 4 5 6 7 8 other"]
    # 1..8 is in the training, 2..9 is not.
    assert copied(["1 2 3 4 5 6 7 8 9"], training) == pytest.approx(1 / 2)
    assert copied(["1, 2, 3, 4, 5, 6, 7, 8."], training) == 1
    assert math.isnan(copied(["1 2 3"], training))
