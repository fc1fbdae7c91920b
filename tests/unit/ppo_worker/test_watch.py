"""Warnings, from records written by hand: what they say, and what leaves them silent."""

from __future__ import annotations

from ppo_worker.metrics import StepRecord
from ppo_worker.watch import collapse, kl_spike


def record(step: int, **changes: object) -> StepRecord:
    fields = {
        "step": step,
        "model_version": "m@1",
        "score": 0.0,
        "reward": 0.0,
        "optimised": 0.0,
        "kl": 0.5,
        "length": 20.0,
        "entropy": 2.0,
        "perplexity": 10.0,
        "disagreement": None,
        "clip_fraction": 0.0,
        "update_kl": 0.0,
        "policy_loss": 0.0,
        "value_loss": 0.0,
        "ptx_loss": None,
        "gradient": 1.0,
        "unscored": 0,
        "unfinished": 0.0,
        "sample_s": 0.0,
        "score_s": 0.0,
        "learn_s": 0.0,
    }
    return StepRecord.model_validate({**fields, **changes})


def steady(count: int = 10) -> list[StepRecord]:
    return [record(step) for step in range(1, count + 1)]


def test_a_kl_that_is_three_times_the_usual_one_is_a_spike() -> None:
    usual = [record(step, kl=2.0) for step in range(1, 11)]
    long = {"length": 50.0}
    assert kl_spike([*usual, record(11, kl=5.9, **long)]) is None
    found = kl_spike([*usual, record(11, kl=6.0, **long)])
    assert found is not None
    assert "6 nats" in found
    assert "2 at most" in found


def test_a_rise_by_a_tenth_of_a_nat_a_token_is_a_spike() -> None:
    usual = [record(step, kl=13.0) for step in range(1, 11)]
    assert kl_spike([*usual, record(11, kl=14.9)]) is None
    assert kl_spike([*usual, record(11, kl=15.0)]) is not None


def test_a_kl_that_explodes_in_the_first_steps_is_a_spike() -> None:
    assert kl_spike([record(1, kl=0.0), record(2, kl=0.2), record(3, kl=9.0)]) is not None


def test_a_policy_that_leaves_its_reference_at_a_steady_pace_has_no_spike() -> None:
    # Measured, on three runs of the demo task with other rewards and learning rates.
    for kls in (
        [0, 0, 0, 0.35, 0.89, 1.24, 2.2, 3.34, 4.88, 5.58, 6.65, 6.05, 8.28],
        [0, 0, 0, 0.41, 1.05, 0.84, 1.35, 1.82, 2.16, 2.93, 3.22, 3.06, 3.92],
        [0, 0, 0, 0.14, 0.67, 1.45, 1.48, 1.87, 2.51, 3.4, 3.64, 3.81, 3.59],
    ):
        records = [record(step, kl=kl) for step, kl in enumerate(kls, start=1)]
        assert not any(kl_spike(records[:end]) for end in range(1, len(records) + 1))


def test_small_kls_and_a_steady_rise_are_no_spike() -> None:
    start = [record(step, kl=0.01) for step in range(1, 7)]
    assert kl_spike([*start, record(7, kl=0.5)]) is None
    assert kl_spike([record(step, kl=float(step)) for step in range(1, 30)]) is None


def test_reward_and_length_up_with_perplexity_down_is_a_collapse() -> None:
    worse = {"reward": 1.0, "length": 30.0, "perplexity": 5.0}
    end = [record(step, **worse) for step in range(11, 16)]
    found = collapse([*steady(), *end])
    assert found is not None
    assert "1.50 times as long" in found
    for name, healthy in (("reward", -0.1), ("length", 21.0), ("perplexity", 9.0)):
        fine = [record(step, **{**worse, name: healthy}) for step in range(11, 16)]
        assert collapse([*steady(), *fine]) is None


def test_a_collapse_that_goes_on_under_a_second_version_is_seen() -> None:
    end = [
        record(step, model_version="m@2", reward=step, length=30.0, perplexity=5.0)
        for step in range(11, 21)
    ]
    assert collapse([*steady(), *end[:9]]) is None
    assert collapse([*steady(), *end]) is not None


def test_rewards_of_two_versions_are_not_compared() -> None:
    end = [
        record(step, model_version="m@2", reward=9.0, length=30.0, perplexity=5.0)
        for step in range(11, 16)
    ]
    assert collapse([*steady(), *end]) is None
