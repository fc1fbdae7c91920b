from __future__ import annotations

from random import Random

import pytest

from assay.schemas.storage import Sample
from reward_trainer.online.groups import ALONE, Dropped, Group, Joined, Joining


def single(text: str, prompt: str = "p", **changes: object) -> Sample:
    return Sample.model_validate(
        {"prompt": prompt, "completions": [text], "policy": "ppo", **changes}
    )


def texts(released: list[Joined]) -> list[tuple[object, ...]]:
    return [item.completions for item in released if isinstance(item, Group)]


def test_completions_of_one_prompt_policy_and_step_are_joined_up_to_k_max() -> None:
    joining = Joining(k_max=3, join_span=100)
    assert joining.add("1-0", single("a", step=1)) == []
    assert joining.add("2-0", single("x", step=2)) == []
    assert joining.add("3-0", single("b", step=1)) == []
    (group,) = joining.add("4-0", single("c", step=1))
    assert isinstance(group, Group)
    assert group.completions == ("a", "b", "c")
    assert group.ids == ("1-0", "3-0", "4-0")
    assert [waiting.group.completions for waiting in joining.pending] == [("x",)]


@pytest.mark.parametrize(
    "other", [{"prompt": "q"}, {"policy": "sft"}, {"step": 2}, {"group": "g"}], ids=str
)
def test_others_are_kept_apart(other: dict[str, object]) -> None:
    joining = Joining(k_max=2, join_span=100)
    joining.add("1-0", single("a", step=1))
    assert joining.add("2-0", single("b", **{"step": 1, **other})) == []  # type: ignore[arg-type]


def test_a_group_id_joins_whatever_the_step_but_never_across_prompts() -> None:
    joining = Joining(k_max=2, join_span=100)
    joining.add("1-0", single("a", step=7, group="g"))
    assert joining.add("2-0", single("b", prompt="q", group="g")) == []
    (group,) = joining.add("3-0", single("c", step=3, group="g"))
    assert isinstance(group, Group)
    assert (group.completions, group.step) == (("a", "c"), 3)


def test_a_prompt_is_the_same_however_it_is_written() -> None:
    joining = Joining(k_max=2, join_span=100)
    joining.add("1-0", single("a"))
    as_messages = Sample.model_validate(
        {"prompt": [{"role": "user", "content": "p"}], "completions": ["b"], "policy": "ppo"}
    )
    assert texts(joining.add("2-0", as_messages)) == [("a", "b")]


def test_a_group_is_released_after_join_span_entries_of_any_kind() -> None:
    joining = Joining(k_max=8, join_span=3)
    joining.add("1-0", single("a"))
    joining.add("2-0", single("b"))
    assert joining.skip() == []
    assert texts(joining.add("4-0", single("x", prompt="q"))) == [("a", "b")]


def test_a_completion_that_stays_alone_is_dropped_with_what_it_held() -> None:
    joining = Joining(k_max=8, join_span=1)
    joining.add("1-0", single("a", step=4))
    (dropped,) = joining.skip()
    assert isinstance(dropped, Dropped)
    assert (dropped.ids, dropped.reason) == (("1-0",), ALONE)
    assert Sample.model_validate_json(dropped.data[0]) == single("a", step=4)


def test_entries_of_several_completions_are_groups_of_their_own() -> None:
    joining = Joining(k_max=4, join_span=100)
    several = Sample(prompt="p", completions=list("abcdefghi"), policy="ppo")
    assert texts(joining.add("1-0", several)) == [tuple("abc"), tuple("def"), tuple("ghi")]
    assert texts(joining.add("2-0", Sample(prompt="p", completions=["a", "b"], policy="ppo")))
    assert joining.pending == []


def test_no_completion_of_a_large_entry_is_left_alone() -> None:
    for k_max in (2, 3, 4):
        for number in range(2, 15):
            several = Sample(prompt="p", completions=list("abcdefghijklmno")[:number], policy="p")
            parts = texts(Joining(k_max=k_max, join_span=9).add("1-0", several))
            assert [text for part in parts for text in part] == several.completions
            assert all(2 <= len(part) <= max(3, k_max) for part in parts)


def test_what_is_released_depends_on_the_entries_alone() -> None:
    """Stopped and restored at any entry, the joining goes on as if it had not been."""
    random = Random(0)
    entries = [single(f"t{i}", prompt=f"p{random.randrange(6)}") for i in range(120)]
    straight, broken = Joining(k_max=3, join_span=7), Joining(k_max=3, join_span=7)
    expected, found = [], []
    for index, entry in enumerate(entries):
        expected += straight.add(f"{index}-0", entry)
        broken = Joining.model_validate_json(broken.model_dump_json())
        found += broken.add(f"{index}-0", entry)
    assert found == expected
    assert len(texts(expected)) > 20
    assert any(isinstance(item, Dropped) for item in expected)
