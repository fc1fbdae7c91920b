from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from assay.errors import DataError, InvalidInputError
from assay.models.scorer import EncodedInput
from assay.schemas.storage import Sample
from assay.schemas.text import Completion, Prompt
from online_trainer import fields, sample
from reward_trainer.gate.data import is_held_group
from reward_trainer.online.filters import similarity
from reward_trainer.online.groups import Dropped, Group, Joining
from reward_trainer.online.intake import HELD_GROUPS, Intake, Ready
from reward_trainer.online.lag import Lag
from reward_trainer.online.options import Limits

LIMITS = Limits(policies=None, max_policy_lag=None, max_characters=100_000, near_duplicate=0.9)
TRAINED = next(f"prompt {i}" for i in range(100) if not is_held_group(f"prompt {i}"))
HELD = next(f"prompt {i}" for i in range(1000) if is_held_group(f"prompt {i}"))


def encode(prompt: Prompt, completion: Completion) -> EncodedInput:
    text = f"{prompt}|{completion}"
    if "unreadable" in text:
        raise InvalidInputError("the model's chat template refuses these messages")
    return EncodedInput(tuple(text[:60].encode()))


def intake() -> Intake:
    return Intake(joining=Joining(k_max=8, join_span=16))


def take(item: Sample | dict[str, str], limits: Limits = LIMITS) -> Ready | Dropped:
    (found,) = intake().take(
        "1-0", item if isinstance(item, dict) else fields(item), encode, limits
    )
    return found


def reason(item: Sample | dict[str, str], limits: Limits = LIMITS) -> str:
    found = take(item, limits)
    assert isinstance(found, Dropped)
    assert found.ids == ("1-0",)
    return found.reason


def group(completions: list[str], prompt: str = TRAINED) -> Group:
    found = take(sample(0, prompt=prompt, completions=completions))
    assert isinstance(found, Ready)
    return found.group


def test_a_good_sample_becomes_a_group_to_train_on() -> None:
    found = take(sample(3, prompt=TRAINED))
    assert isinstance(found, Ready)
    assert found.use == "train"
    assert len(found.group.completions) == 4


def test_groups_of_one_prompt_in_ten_are_kept_from_training_and_the_newest_remembered() -> None:
    state = intake()
    for number in range(HELD_GROUPS + 5):
        (found,) = state.take(f"{number}-0", fields(sample(number, prompt=HELD)), encode, LIMITS)
        assert isinstance(found, Ready)
        assert found.use == "held"
    assert len(state.held) == HELD_GROUPS
    assert state.held[-1].ids == (f"{HELD_GROUPS + 4}-0",)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"schema": "2", "data": "{}"}, "other schema: '2', and this release reads '1'"),
        ({"data": "{}"}, "other schema: 'None'"),
        ({}, "other schema: 'None'"),
        ({"schema": "1"}, "no sample: "),
        ({"schema": "1", "data": "not json"}, "no sample: "),
        ({"schema": "1", "data": '{"prompt": "p", "completions": ["a"]}'}, "no sample: policy"),
        ({"schema": "1", "data": json.dumps({"prompt": "p", "completions": []})}, "no sample: "),
        ({"schema": "1", "data": "\ufffd\ufffd"}, "no sample: "),
    ],
)
def test_entries_that_are_no_samples_are_dropped(entry: dict[str, str], said: str) -> None:
    assert reason(entry).startswith(said)


def test_no_reason_repeats_what_was_sampled() -> None:
    secret = {"schema": "1", "data": json.dumps({"prompt": "secret", "completions": "secret"})}
    assert "secret" not in reason(secret)


@pytest.mark.parametrize("where", ["prompt", "completions"])
def test_texts_over_the_limit_are_dropped(where: str) -> None:
    long = "x" * 100_001
    changed: dict[str, Any] = {where: long if where == "prompt" else ["a", long]}
    assert reason(sample(0, **changed)) == "too long: 100001 characters, of 100000 at most"


def test_equal_completions_are_dropped() -> None:
    assert reason(sample(0, completions=["same"] * 3)).startswith("equal completions")


def test_completions_that_the_model_cannot_tell_apart_are_dropped() -> None:
    cut = ["y" * 100 + "a", "y" * 100 + "b"]  # the toy reads the first 60 characters
    assert reason(sample(0, completions=cut)).startswith("equal completions")


def test_near_duplicates_are_dropped() -> None:
    text = "The quick brown fox jumps over the lazy dog while the sun sets behind the far hills."
    assert reason(sample(0, completions=[f"0 {text}", f"1 {text}"])).startswith("near-duplicates")


def test_of_repeated_completions_the_first_stays() -> None:
    assert group(["a red house", "a blue boat", "a red house"]).completions == (
        "a red house",
        "a blue boat",
    )


def test_similarity_by_hand() -> None:
    # abcdef: abcde bcdef; abcdeg: abcde bcdeg; one of three is common.
    assert similarity("abcdef", "abcdeg") == pytest.approx(1 / 3)
    assert similarity("A  b", "a b") == 1.0
    assert similarity("", "x") == 0.0


def test_completions_that_the_model_refuses_are_dropped() -> None:
    assert reason(sample(0, completions=["fine", "unreadable"])).startswith("unreadable: the model")


def test_unknown_policies_are_dropped_where_policies_are_named() -> None:
    limits = LIMITS.model_copy(update={"policies": ("sft",)})
    assert reason(sample(0), limits).startswith("unknown policy")
    assert isinstance(take(sample(0, policy="sft"), limits), Ready)


def test_samples_behind_their_policy_are_dropped() -> None:
    limits = LIMITS.model_copy(update={"max_policy_lag": 10})
    state = intake()
    for entry, step, policy in (("1-0", 100, "ppo"), ("2-0", 90, "ppo"), ("3-0", 1, "other")):
        (kept,) = state.take(entry, fields(sample(1, step=step, policy=policy)), encode, limits)
        assert isinstance(kept, Ready)
    (dropped,) = state.take("4-0", fields(sample(1, step=89)), encode, limits)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "stale: 11 steps behind, of 10 at most"
    assert state.dead == {"stale": 1}


def test_one_wild_step_silences_a_policy_for_no_more_than_the_span() -> None:
    limits = LIMITS.model_copy(update={"max_policy_lag": 10})
    state = Intake(joining=Joining(k_max=8, join_span=5))
    state.take("1-0", fields(sample(1, step=2**53)), encode, limits)
    kept = []
    for step in range(8):
        state = Intake.model_validate_json(state.model_dump_json())
        (found,) = state.take(f"2-{step}", fields(sample(1, step=step)), encode, limits)
        kept.append(isinstance(found, Ready))
    assert kept == [False] * 4 + [True] * 4


def test_the_lag_is_that_behind_the_largest_of_the_last_steps() -> None:
    steps = [Random(0).randrange(50) for _ in range(300)]
    lag, span = Lag(), 7
    for number, step in enumerate(steps):
        newest = max(steps[max(0, number - span + 1) : number + 1])
        if newest - step > 20:
            with pytest.raises(DataError, match=f"stale: {newest - step} steps behind"):
                lag.check(sample(0, step=step), 20, span)
        else:
            lag.check(sample(0, step=step), 20, span)


def test_of_policies_the_last_ones_are_remembered() -> None:
    lag = Lag()
    for number in range(200):
        lag.check(sample(0, step=9, policy=f"policy {number}"), 3, 5)
        lag.check(sample(0, step=9, policy="steady"), 3, 5)
    assert len(lag.policies) < 100
    with pytest.raises(DataError, match="stale"):
        lag.check(sample(0, step=1, policy="steady"), 3, 5)


def test_groups_that_are_trained_on_are_counted() -> None:
    state = intake()
    for number, prompt in enumerate((TRAINED, HELD, TRAINED)):
        state.take(f"{number}-0", fields(sample(number, prompt=prompt)), encode, LIMITS)
    assert state.trained == 2


def test_every_entry_counts_for_the_joining_dropped_ones_too() -> None:
    state = Intake(joining=Joining(k_max=8, join_span=2))
    state.take("1-0", fields(sample(0, k=1)), encode, LIMITS)
    state.take("2-0", {"schema": "9"}, encode, LIMITS)
    found = state.take("3-0", {"schema": "9"}, encode, LIMITS)
    assert [item.reason[:5] for item in found if isinstance(item, Dropped)] == ["alone", "other"]
    assert state.dead == {"other schema": 2, "alone": 1}


def test_a_joined_group_that_is_dropped_leaves_each_entry_its_own_data() -> None:
    state = Intake(joining=Joining(k_max=2, join_span=9))
    one = sample(0, completions=["same"])
    state.take("1-0", fields(one), encode, LIMITS)
    (dropped,) = state.take("2-0", fields(one), encode, LIMITS)
    assert isinstance(dropped, Dropped)
    assert dropped.ids == ("1-0", "2-0")
    assert [Sample.model_validate_json(data) for data in dropped.data] == [one, one]


def test_the_state_survives_a_checkpoint_messages_included() -> None:
    messages = [{"role": "user", "content": "hi", "name": "x"}]
    replies = [
        [{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
        [{"role": "assistant", "content": "b"}],
    ]
    state = intake()
    state.take("1-0", fields(sample(0, k=1)), encode, LIMITS)
    tools = sample(1, prompt=messages, completions=replies[:1])
    state.take("2-0", fields(tools), encode, LIMITS)
    again = Intake.model_validate_json(state.model_dump_json())
    assert again == state
    assert again.model_dump_json() == state.model_dump_json()
