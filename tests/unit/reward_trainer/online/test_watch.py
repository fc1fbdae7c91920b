from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reward_trainer.online.drift import Drift, drift_by_policy
from reward_trainer.online.groups import Group
from reward_trainer.online.step import StepRecord
from reward_trainer.online.watch import remember, warnings


def record(**changes: Any) -> StepRecord:
    fields = {
        "loss": 0.5,
        "separation": 0.2,
        "difference": 1.0,
        "spread": 2.0,
        "loss_gradient": 1.0,
        "separation_gradient": 0.1,
        "drift": {"ppo": drift()},
    }
    return StepRecord.model_validate({**fields, **changes})


def drift(**changes: Any) -> Drift:
    fields = {"groups": 4, "variance": 1.0, "disagreement": 0.5, "length_correlation": 0.1}
    return Drift.model_validate({**fields, **changes})


def kinds(first: StepRecord, last: StepRecord, times: int = 15) -> list[str]:
    return [warned.kind for warned in warnings([first] * times + [last] * times)]


def test_nothing_is_warned_of_while_nothing_changes() -> None:
    assert kinds(record(), record()) == []


def test_a_gradient_ten_times_as_large_is_unstable() -> None:
    assert kinds(record(), record(separation_gradient=1.1)) == ["meta_gradient_unstable"]
    assert kinds(record(), record(separation_gradient=0.9)) == []


def test_a_single_large_gradient_is_not() -> None:
    assert warnings([record()] * 20 + [record(separation_gradient=100.0)] + [record()] * 5) == []


def test_scores_that_grow_as_a_whole_are_inflated() -> None:
    assert kinds(record(), record(difference=1.6, spread=3.2)) == ["score_inflation"]
    assert kinds(record(), record(difference=1.4, spread=2.8)) == []


def test_differences_that_grow_against_the_spread_are_what_is_wanted() -> None:
    assert kinds(record(), record(difference=1.6, spread=2.0)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variance": 0.4}, "variance"),
        ({"disagreement": 0.8}, "disagreement"),
        ({"length_correlation": -0.2}, "length"),
    ],
)
def test_drift_names_the_policy_and_the_signal(changes: dict[str, float], said: str) -> None:
    (warned,) = warnings([record()] * 15 + [record(drift={"ppo": drift(**changes)})] * 15)
    assert (warned.kind, warned.about) == ("drift", "ppo")
    assert said in warned.detail


def test_a_policy_that_has_come_late_is_not_compared_with_others() -> None:
    assert kinds(record(), record(drift={"new": drift(variance=0.1)})) == []


def test_memory_keeps_the_first_and_the_newest() -> None:
    history: list[StepRecord] = []
    for number in range(200):
        history = remember(history, record(loss=float(number)))
    assert [kept.loss for kept in history[:20]] == list(range(20))
    assert [kept.loss for kept in history[20:]] == list(range(150, 200))


def test_signals_by_hand() -> None:
    groups = [
        Group(prompt="p", completions=("a", "bb", "ccc"), policy="ppo", ids=()),
        Group(prompt="q", completions=("dd", "e"), policy="sft", ids=()),
    ]
    # Means over members 1, 2, 4: differences 1, 3, 2; the members': (0, 2), (2, 4), (2, 2).
    scores = [np.array([[1.0, 1.0], [1.0, 3.0], [3.0, 5.0]]), np.array([[1.0], [0.0]])]
    found = drift_by_policy(groups, scores)
    assert found["ppo"].variance == pytest.approx((1 + 9 + 4) / 3)
    assert found["ppo"].disagreement == pytest.approx((1 + 1 + 0) / 3)
    assert found["ppo"].length_correlation == pytest.approx(1.0)
    assert found["sft"].disagreement is None
    assert found["sft"].length_correlation == pytest.approx(1.0)
