"""What is kept from training, and that nothing ever changes sides."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from assay.errors import InvalidInputError
from assay.schemas.text import Message, Prompt
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.fit.splits import split_by_root
from reward_trainer.gate.data import GateData, held_out, is_held_group
from reward_trainer.gate.layout import Layout


@dataclass
class Samples:
    prompt: Prompt
    completions: list[str] = field(default_factory=lambda: ["a", "bb"])


def pair(prompt: str, number: int = 0, root: str = "") -> Pair:
    return Pair("", number + 1, root, prompt, f"good {number}", f"bad {number}")


def prompts(pairs: list[Pair]) -> set[str]:
    return {str(p.prompt) for p in pairs}


def test_about_fifteen_percent_of_the_prompts_are_held_out_with_all_their_pairs() -> None:
    pairs = [pair(f"Question {i}?", number) for i in range(1000) for number in range(2)]

    train, held = held_out(pairs)

    left = {prompt for prompt in prompts(pairs) - prompts(held) if not is_held_group(prompt)}
    assert prompts(train) == left
    assert len(train) == 2 * len(left)
    assert len(held) == 2 * len(prompts(held))
    assert 110 <= len(prompts(held)) <= 190  # 150 +- 3.5 sqrt(1000 .15 .85)


def test_pairs_that_come_later_move_no_pair_to_the_other_side() -> None:
    pairs = [pair(f"Question {i}?") for i in range(400)]

    before, after = held_out(pairs[:200]), held_out(pairs[::-1])

    assert prompts(before.held) <= prompts(after.held)
    assert prompts(before.train) <= prompts(after.train)


def test_pairs_of_one_conversation_stay_together() -> None:
    pairs = [pair(f"Turn {turn} of {i}", root=f"root {i}") for i in range(100) for turn in (1, 2)]

    train, held = held_out(pairs)

    assert not {p.root for p in train} & {p.root for p in held}


def test_a_few_prompts_are_counted_out() -> None:
    pairs = [pair(f"Question {i}?", number) for i in range(20) for number in range(5)]

    assert len(prompts(held_out(pairs).held)) == 3
    assert held_out([pair("only one")]).held == []
    assert held_out([]) == ([], [])


def test_the_probe_is_never_trained_on() -> None:
    pairs = [pair(f"Question {i}?") for i in range(100)]
    probe = held_out(pairs).train[:10]

    train, held = held_out(pairs, probe)

    assert not prompts(train) & prompts(probe)
    assert prompts(probe) <= prompts(held)


def test_one_prompt_in_ten_is_held_out_whatever_its_group() -> None:
    held = sum(is_held_group(f"Question {i}?") for i in range(2000))

    assert 147 <= held <= 253  # 200 +- 4 sqrt(2000 .1 .9)


def test_a_prompt_is_held_out_however_it_is_written() -> None:
    for i in range(50):
        text, message = f"Question {i}?", Message(role="user", content=f"Question {i}?")
        answers = {is_held_group(p) for p in (text, [message], f"\n\nHuman: {text}\n\nAssistant:")}
        assert len(answers) == 1


@pytest.mark.parametrize(
    "template",
    [
        "Below is an instruction. Write a response.\n\n### Instruction:\n{}\n\n### Response:\n",
        "Solve the following math problem.\n\n{}",
        "Write a Python function that passes the tests.\n\n{}",
    ],
)
def test_one_prompt_in_ten_of_one_template_is_held_out(template: str) -> None:
    held = sum(is_held_group(template.format(f"question {i}")) for i in range(500))

    assert 24 <= held <= 76  # 50 +- 4 sqrt(500 .1 .9)


def test_prompts_whose_groups_are_held_out_are_in_no_pair_that_is_trained_on() -> None:
    pairs = [pair(f"Question {i}?", root=f"root {i % 90}") for i in range(900)]

    train, held = held_out(pairs)

    assert not [p for p in train if is_held_group(p.prompt)]
    assert [p for p in pairs if is_held_group(p.prompt) and p not in held]


@pytest.mark.parametrize("roots", [3, 7, 24, 54, 60, 61, 700])
def test_what_is_held_out_is_nothing_that_a_fit_trains_on(roots: int) -> None:
    pairs = [pair(f"q {i}", root=f"root {i}") for i in range(roots)]

    trained = {p.root for p in split_by_root(pairs, load_recipe("bt")).train}

    assert not trained & {p.root for p in held_out(pairs).held}


def test_a_group_of_one_completion_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="group 2 has 1 completions"):
        GateData([], [Samples("p"), Samples("q", ["a"])])


def test_each_text_is_scored_once_wherever_it_stands() -> None:
    first = Pair("", 1, "", "p", "a", "bb")
    second = Pair("", 2, "", "p", "ccc", "bb")
    layout = Layout.of(GateData([first, second], [Samples("p"), Samples("q")], [first]))

    assert [text.completion for text in layout.texts] == ["a", "bb", "ccc", "a", "bb"]
    assert layout.held.tolist() == [[0, 1], [2, 1]]
    assert layout.probe.tolist() == [[0, 1]]
    assert [rows.tolist() for rows in layout.groups] == [[0, 1], [3, 4]]
    assert layout.lengths.tolist() == [1, 2, 3, 1, 2]
    assert [rows.tolist() for rows in layout.prompts] == [[0, 1, 2], [3, 4]]
    assert layout.reference.tolist() == [0, 1, 2]


def test_other_evidence_has_another_digest() -> None:
    pairs = [Pair("", 1, "", "p", "a", "b"), Pair("", 2, "", "p", "b", "c")]
    digests = {
        Layout.of(data).digest
        for data in (
            GateData(pairs, []),
            GateData(pairs[::-1], []),
            GateData(pairs, [Samples("p", ["a", "b"])]),
            GateData(pairs[:1], [], pairs[1:]),
        )
    }

    assert len(digests) == 4
    assert Layout.of(GateData(pairs, [])).digest == Layout.of(GateData(list(pairs), [])).digest
