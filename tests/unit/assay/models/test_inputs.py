"""Messages that are odd but legal, or not legal at all: the right tokens, or a typed error."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import InvalidInputError, MalformedRequestError
from assay.models.inputs import InputEncoder, InputFormat, SystemPolicy
from assay.schemas.text import Completion, Message, Prompt
from tiny_models import CHATML, PADDED, byte_tokenizer

NO_BOS = {"eos_token": "<eos>"}
ALTERNATING = (
    "{% for m in messages %}"
    "{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)
# As Qwen3's: the last answer gets a thinking block, and one that it brings is written anew.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% set text = m.content or '' %}{% set thought = '' %}"
    "{% if m.role == 'assistant' and '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}"
    "{{ text }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.name }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
)
USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}


def messages(*turns: dict[str, Any]) -> list[Message]:
    return [Message.model_validate(turn) for turn in turns]


def read(
    prompt: Prompt,
    completion: Completion,
    *,
    special: dict[str, str] = PADDED,
    template: str | None = CHATML,
    form: InputFormat = "chat",
    system: SystemPolicy = "error",
    finished: bool = True,
) -> str:
    """What the model reads, as text."""
    tokenizer = byte_tokenizer(special, template)
    encoder = InputEncoder(tokenizer, form, 256, system)
    return str(tokenizer.decode(list(encoder.encode(prompt, completion, finished=finished).ids)))


@pytest.mark.parametrize(
    ("content", "begun"),
    [
        ({"content": "so"}, "so"),
        ({"content": [{"type": "text", "text": "so"}]}, "so"),
        ({"content": None}, ""),
        ({}, ""),
    ],
)
def test_a_completion_goes_on_with_a_begun_turn(content: dict[str, Any], begun: str) -> None:
    prompt = messages(USER, {"role": "assistant", **content})
    turn = f"<|im_start|>assistant\n{begun}x<|im_end|>\n"
    assert read(prompt, "x") == f"<|im_start|>user\nhi<|im_end|>\n{turn}"
    hh = f"\n\nHuman: hi\n\nAssistant: {begun}x<eos>"
    assert f"{read(prompt, 'x', special=NO_BOS, form='concat')}<eos>" == hh


def test_a_begun_turn_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="other kinds"):
        read(messages(USER, {"role": "assistant", "content": [{"type": "image"}]}), "x")


@pytest.mark.parametrize(
    ("completion", "written"),
    [
        ("<think>2 and 2</think>It is", "<think>\n2 and 2\n</think>\n\nIt is"),
        ("\n\n<think>\n2 and 2\n\n</think>\nIt is", "<think>\n2 and 2\n</think>\n\nIt is"),
        ("<think>2 and 2</think>", "<think>\n2 and 2\n</think>\n\n"),
        ("It is", "<think>\n\n</think>\n\nIt is"),
        (
            [{"role": "assistant", "tool_calls": [{"name": "add"}]}],
            "<think>\n\n</think>\n\n<tool_call>add</tool_call>",
        ),
    ],
)
def test_a_cut_answer_that_the_template_rewrites_only_lacks_its_end(
    completion: str | list[dict[str, Any]], written: str
) -> None:
    given = completion if isinstance(completion, str) else messages(*completion)
    cut = read("hi", given, template=QWEN3, finished=False)
    assert cut == f"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{written}"
    assert read("hi", given, template=QWEN3) == f"{cut}<|im_end|>\n"


@pytest.mark.parametrize("finished", [True, False])
def test_an_input_without_any_token_is_refused(finished: bool) -> None:
    nothing = messages({"role": "assistant", "content": ""})
    with pytest.raises(InvalidInputError, match="empty"):
        read("", nothing, special=NO_BOS, form="concat", finished=finished)


@pytest.mark.parametrize("prompt", [[SYSTEM, USER, USER], [{"role": "assistant", "content": "x"}]])
def test_a_template_that_refuses_even_the_merged_messages_is_a_typed_error(
    prompt: list[dict[str, Any]],
) -> None:
    with pytest.raises(MalformedRequestError, match="alternate"):
        read(messages(*prompt), "x", template=ALTERNATING, system="merge")
