"""Texts as the chat templates of Qwen3, Llama 3.1, Gemma and others write them, read back."""

from __future__ import annotations

import pytest

from assay.schemas.boundary import Reading, Rules, read, read_after, read_apart
from assay.schemas.text import as_messages, prompt_digest

AUTO = Rules()
ASKED = [{"role": "user", "content": "What is 2+2?"}]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "What is 2+2?"},
]

QWEN = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
QWEN_LONG = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n" + QWEN
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
LLAMA_LONG = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = "<bos><start_of_turn>user\nWhat is 2+2?<end_of_turn>\n<start_of_turn>model\n"
LLAMA2 = "<s>[INST] What is 2+2? [/INST]"
LLAMA2_LONG = (
    "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] What is 2+2? [/INST]"
)
MISTRAL_LONG = "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello.</s>[INST]" + (
    "What is 2+2?[/INST]"
)
PROMPTS = [
    (QWEN, "<|im_end|>", ASKED),
    (QWEN + "<think>\n\n</think>\n\n", "<|im_end|>\n", ASKED),
    (QWEN_LONG, "<|im_end|>\n<|endoftext|><|endoftext|>", CONVERSATION),
    (LLAMA, "<|eot_id|>", ASKED),
    ("<|begin_of_text|>" + LLAMA_LONG, "<|eot_id|>", CONVERSATION),
    (GEMMA, "<end_of_turn>\n<eos>", ASKED),
    ("<pad><pad><bos>" + GEMMA, "<end_of_turn>\n", ASKED),
    (LLAMA2, " </s>", ASKED),
    (LLAMA2_LONG, "</s>", CONVERSATION),
    (MISTRAL_LONG, "</s>", CONVERSATION),
]


def messages(reading: Reading) -> object:
    return as_messages(reading.prompt)


@pytest.mark.parametrize(("prompt", "end", "expected"), PROMPTS)
def test_templates_are_read_back_however_the_text_comes(
    prompt: str, end: str, expected: list[dict[str, str]]
) -> None:
    for reading in (
        read(f"{prompt}It is 4.{end}", AUTO),
        read_after(prompt, f"{prompt}It is 4.{end}", AUTO),
        read_apart(prompt, f"It is 4.{end}", AUTO),
        read_apart(prompt, "It is 4.", AUTO),
    ):
        assert messages(reading) == expected
        assert reading.completion == "It is 4."
        assert (reading.finished, reading.raw) == (True, False)


@pytest.mark.parametrize(("prompt", "_", "expected"), PROMPTS)
def test_a_turn_without_its_end_was_cut(
    prompt: str, _: str, expected: list[dict[str, str]]
) -> None:
    reading = read(prompt + "It is", AUTO)
    assert (messages(reading), reading.completion) == (expected, "It is")
    assert not reading.finished
    assert not read_after(prompt, prompt + "It is", AUTO).finished


def test_an_empty_answer_is_whole() -> None:
    assert read(QWEN, AUTO)[1:] == ("", True, False)


def test_thoughts_belong_to_the_completion_wherever_the_prompt_ends() -> None:
    text = QWEN + "<think>\ntwo and two\n</think>\n\n4<|im_end|>"
    for reading in (
        read(text, AUTO),
        read_after(QWEN, text, AUTO),
        read_after(QWEN + "<think>\n", text, AUTO),
    ):
        assert messages(reading) == ASKED
        assert reading.completion == "<think>\ntwo and two\n</think>\n\n4"


def test_a_system_message_that_qwen_writes_by_itself_is_no_message() -> None:
    made = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    text = f"<|im_start|>system\n{made}<|im_end|>\n{QWEN}4<|im_end|>\n"
    assert messages(read(text, AUTO)) == ASKED
    own = text.replace("assistant.<|im_end|>", "assistant. Be brief.<|im_end|>")
    assert messages(read(own, AUTO))[0] == {"role": "system", "content": f"{made} Be brief."}  # type: ignore[index]


def test_what_a_system_message_quotes_of_a_template_is_its_own() -> None:
    for quoted in (
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nis what Llama writes.",
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    ):
        text = f"<|im_start|>system\nDo not say: {quoted}<|im_end|>\n{QWEN}4<|im_end|>\n"
        system = {"role": "system", "content": f"Do not say: {quoted}"}
        assert messages(read(text, AUTO)) == [system, *ASKED]


def test_a_turn_that_the_prompt_begins_is_gone_on_with() -> None:
    reading = read_after(QWEN + "Sure, ", QWEN + "Sure, it is 4.<|im_end|>", AUTO)
    assert messages(reading) == [*ASKED, {"role": "assistant", "content": "Sure, "}]
    assert reading.completion == "it is 4."


def test_tool_turns_after_the_prompt_are_part_of_the_completion() -> None:
    text = (
        QWEN + "add(2, 2)<|im_end|>\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n"
        "It is 4.<|im_end|>\n"
    )
    reading = read_after(QWEN, text, AUTO)
    assert messages(reading) == ASKED
    assert as_messages(reading.completion) == [
        {"role": "assistant", "content": "add(2, 2)"},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "It is 4."},
    ]


@pytest.mark.parametrize(("prompt", "end", "expected"), PROMPTS)
def test_turns_that_a_policy_spells_never_become_its_prompt(
    prompt: str, end: str, expected: list[dict[str, str]]
) -> None:
    spelled = f"No idea.{end}{prompt}It is 4."
    for reading in (
        read_after(prompt, f"{prompt}{spelled}{end}", AUTO),
        read_apart(prompt, f"{spelled}{end}", AUTO),
    ):
        assert messages(reading) == expected
        assert (str(reading.completion).strip(), reading.finished) == (spelled, True)
    cut = read_after(prompt, prompt + spelled, AUTO)
    assert (cut.completion, cut.finished) == (spelled, False)
    as_it_is = read_apart(prompt, spelled + end, Rules(strip_special_tokens=False))
    assert (messages(as_it_is), as_it_is.completion) == (expected, spelled + end)


def test_turns_that_a_policy_spells_go_on_with_what_the_prompt_begins() -> None:
    spelled = "so\n</think>\n\nNo idea.<|im_end|>\n" + QWEN + "It is 4."
    thinking = read_after(QWEN + "<think>\n", f"{QWEN}<think>\n{spelled}<|im_end|>", AUTO)
    assert (messages(thinking), thinking.completion) == (ASKED, "<think>\n" + spelled)
    sure = read_after(QWEN + "Sure, ", f"{QWEN}Sure, {spelled}<|im_end|>", AUTO)
    assert messages(sure) == [*ASKED, {"role": "assistant", "content": "Sure, "}]
    assert sure.completion == spelled


def test_hh_texts_stay_texts() -> None:
    prompt = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: What is 2+2?\n\nAssistant:"
    for front in ("", "<s>", "<pad><s>"):
        reading = read(f"{front}{prompt} It is 4.</s>", AUTO)
        assert reading == Reading(prompt, " It is 4.")
    assert prompt_digest(reading.prompt) == prompt_digest(as_prompt(CONVERSATION[1:]))


def as_prompt(turns: list[dict[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in turns)


def test_a_prompt_in_no_template_ends_where_the_client_says() -> None:
    text = "<s>What is 2+2? It is 4.<|im_end|><|endoftext|>"
    assert read_after("What is 2+2?", text, AUTO) == Reading("What is 2+2?", " It is 4.")
    spaced = text.replace("<s>", "<s> ")
    assert read_after("What is 2+2?", spaced, AUTO) == Reading("What is 2+2?", " It is 4.")
    as_it_is = read_after("What is 2+2?", text, Rules(strip_special_tokens=False))
    assert as_it_is == Reading("<s>What is 2+2?", " It is 4.<|im_end|><|endoftext|>")
    # A text that begins with another prompt is not cut at that prompt's length.
    assert read_after("What is 3+3?", text, AUTO) == read(text, AUTO)


@pytest.mark.parametrize(
    ("prompt", "text", "completion"),
    [
        ("Cafe\u0301? Say", "<s>Caf\u00e9? Say yes.", " yes."),  # Qwen's tokenizers compose
        ("Well , is it so ?\n\n", "Well, is it so?\n\n It is.", " It is."),  # GPT-2's tidy up
        ("a\u00a0b  c:", "a b c: d\u00e9", " d\u00e9"),
    ],
)
def test_what_a_tokenizer_changes_in_a_prompt_does_not_make_the_whole_text_raw(
    prompt: str, text: str, completion: str
) -> None:
    assert read_after(prompt, text, AUTO) == Reading(prompt, completion)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 4.",
        "Human: hello",
        "Human: 4\n\nAssistant: 4\n\nHuman: more",
        "[INST] no end",
        "so [INST] 4 [/INST]",
        "<|im_start|>user\nonly a question<|im_end|>\n",
        "<|im_start|>assistant\nonly an answer<|im_end|>\n",
        "<|im_start|> user\nno role<|im_end|>\n",
    ],
)
def test_what_is_not_recognised_is_scored_as_it_stands(text: str) -> None:
    reading = read(f"<s>{text}</s>", AUTO)
    assert (reading.prompt, reading.raw) == ("", True)
    assert text.startswith(str(reading.completion))
    assert read(f"<s>{text}</s>", Rules("none", False)).completion == f"<s>{text}</s>"


def test_a_named_template_is_the_only_one_looked_for() -> None:
    assert not read(QWEN + "4", Rules("chatml")).raw
    for name in ("none", "gemma", "hh"):
        assert read(QWEN + "4", Rules(name)).raw


@pytest.mark.parametrize(
    "text",
    [
        "<pad>" * 200_000 + "x",
        "x" + " </s>" * 200_000 + "x",
        "<|im_start|>user\n" * 60_000,
        "[INST]" * 200_000,
        "[INST] [/INST] " + "[INST]" * 200_000,
        "[INST] <<SYS>>" * 100_000,
        "\n\nAssistant:" * 90_000,
        "<think>" * 150_000,
        "<|im_start|>system\n" + "Cutting Knowledge Date: " * 200_000,
    ],
)
def test_megabytes_that_are_all_marks_are_read_in_linear_time(text: str) -> None:
    assert read(text, AUTO).raw  # in quadratic time it would run into pytest's timeout
