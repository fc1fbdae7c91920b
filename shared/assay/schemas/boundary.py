"""The text boundary: from one full text, as a policy's tokenizer left it, to messages.

A text is recognised by what it starts with, after padding and BOS. The turns before the last
assistant turn are the prompt, that turn is the completion, so that score and stored baselines are
those of `POST /v1/score` with the same messages:

* `chatml` (Qwen and others), `llama3`, `gemma`: turns between special tokens.
* `llama2` (Mistral too): `[INST] ... [/INST]`, with `<<SYS>>` or `[SYSTEM_PROMPT]`.
* `hh`: `\\n\\nHuman: ... \\n\\nAssistant: ...`; prompt and completion stay texts as they are.

What a template writes by itself is no part of a message: Llama 3.1's dates, Qwen 2.5's system
message, the empty `<think>` block of Qwen3. A system message that a template puts into the first
user turn (Gemma, Mistral) stays there, and white space that a template strips is lost.

An assistant turn without its end token was cut by the token limit: it gets none here either
(`<|endoftext|>` is taken for padding). A text that is not recognised, or that does not end in an
assistant turn, is scored as it stands, like `{"prompt": "", "raw": true}`, and has no baseline.
Where the prompt comes apart, what follows it is the completion, and a prompt in no template is a
plain string; a text may have other white space in it, or composed characters (NFC), as tokenizers
decode them. Turns of a user that a policy spells there are its own text: they never become part
of the prompt. A completion that comes apart is whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from assay.schemas.text import Completion, Message, Prompt, as_messages

TemplateName = Literal["auto", "none", "chatml", "llama3", "llama2", "gemma", "hh"]

_BEGINS = ("<|begin_of_text|>", "<|startoftext|>", "<bos>", "<s>", "[CLS]")
_ENDS = ("</s>", "<eos>", "<|end_of_text|>", "[SEP]")
_PADS = ("<|endoftext|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|pad|>")
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>")
_HH_OPEN = "\n\nAssistant:"


def _run_of(tokens: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:\s*(?:{'|'.join(map(re.escape, tokens))}))+")


_LEADING = _run_of((*_BEGINS, *_PADS))
# Searching for the end of a text from the front takes quadratic time.
_TRAILING_REVERSED = _run_of(token[::-1] for token in (*_ENDS, *_PADS))
_ANY_END_REVERSED = _run_of(token[::-1] for token in (*_ENDS, *_PADS, *_TURN_ENDS))
_EMPTY_THINK = re.compile(r"<think>\s*</think>\s*")
_OPEN_THINK = re.compile(r"\s*(?:<think>\s*)?")
_MADE_BY_LLAMA = re.compile(
    r"(?:Environment: ipython\n)?Cutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\n\n"
)
_MADE_BY_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_INST = re.compile(r"\[/?INST\]")
_SYSTEM = re.compile(
    r"\s*(?:<<SYS>>\n?(.*?)\n?<</SYS>>\n*|\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\])", re.DOTALL
)


class Rules(NamedTuple):
    """What an operator may choose.

    Attributes:
        template: the one to look for; `auto` = each of them, `none` = texts stay as they are.
        strip_special_tokens: take padding, BOS and EOS off both ends of a text.
    """

    template: TemplateName = "auto"
    strip_special_tokens: bool = True


class Reading(NamedTuple):
    """A text in two parts.

    Attributes:
        finished: False = the completion was cut.
        raw: True = scored as it stands: no chat template, and no baseline to look for.
    """

    prompt: Prompt
    completion: Completion
    finished: bool = True
    raw: bool = False


class _Turn(NamedTuple):
    role: str
    content: str
    ended: bool


def read(text: str, rules: Rules) -> Reading:
    """Split one full text at its last assistant turn."""
    body, ended = _stripped(text)
    turns = _turns(body, rules.template)
    if len(turns) > 1 and turns[-1].role == "assistant":
        return _reading(turns[:-1], turns[-1:], ended)
    kept = _without_ends(body) if rules.strip_special_tokens else text
    if rules.template in ("auto", "hh"):
        before, mark, after = kept.rpartition(_HH_OPEN)
        if _is_hh(before) and "\n\nHuman:" not in after:
            return Reading(before + mark, after)
    return Reading("", kept, raw=True)


def read_after(prompt: str, text: str, rules: Rules) -> Reading:
    """Split a full text where its prompt ends; like `read` if it begins with another prompt."""
    start = _without_front(prompt)
    rest = _rest_after(start, _without_front(text))
    if rest is None:
        return read(text, rules)
    is_shown = not rules.strip_special_tokens and text.endswith(rest)
    return _split_at(text[: len(text) - len(rest)] if is_shown else start, rest, rules)


def _rest_after(start: str, body: str) -> str | None:
    """What follows a prompt, whatever white space and accents its tokenizer made of it."""
    if body.startswith(start):
        return body[len(start) :]
    start, body = (unicodedata.normalize("NFC", part) for part in (start, body))
    at = 0
    for char in "".join(start.split()):
        while body[at : at + 1].isspace():
            at += 1
        if body[at : at + 1] != char:
            return None
        at += 1
    return body[at:].removeprefix(start[len(start.rstrip()) :])


def read_apart(prompt: Prompt, completion: Completion, rules: Rules) -> Reading:
    """Read a prompt that may be in a template, and a completion with its end token or without."""
    if isinstance(completion, str) and isinstance(prompt, str):
        return _split_at(prompt, completion, rules)._replace(finished=True)
    if isinstance(completion, str) and rules.strip_special_tokens:
        completion = _without_ends(completion)
    return Reading(prompt, completion)


def _split_at(prompt: str, completion: str, rules: Rules) -> Reading:
    start = _without_front(prompt)
    body, ended = _stripped(start + completion)
    asked = _turns(start, rules.template)
    begun = asked.pop() if asked and _is_begun(asked[-1]) else None
    if not asked:
        kept = (prompt, completion)
        if rules.strip_special_tokens:
            kept = (start, _without_ends(completion))
        return Reading(*kept, raw=rules.template == "none")
    given = _turns(body, rules.template)[len(asked) :]
    if not given:  # the prompt ends before the header of the assistant's turn
        return Reading(_messages(asked), _without_ends(completion).lstrip("\n"))
    if begun and not _OPEN_THINK.fullmatch(begun.content):
        given[0] = given[0]._replace(content=given[0].content[len(begun.content) :])
        asked.append(begun)
    elif begun:
        completion = begun.content + completion
    reading = _reading(asked, given, ended)
    if any(turn.role not in ("assistant", "tool") for turn in given):  # the policy spelled them
        answer = _without_ends(completion) if rules.strip_special_tokens else completion
        return reading._replace(completion=answer)
    return reading


def _reading(asked: list[_Turn], given: list[_Turn], ended: bool) -> Reading:
    completion: Completion = given[0].content if len(given) == 1 else _messages(given)
    finished = ended or given[-1].ended or not given[-1].content.strip()
    return Reading(_messages(asked), completion, finished)


def _messages(turns: list[_Turn]) -> list[Message]:
    return [Message(role=turn.role, content=turn.content) for turn in turns]


def _without_front(text: str) -> str:
    leading = _LEADING.match(text)
    return text[leading.end() :] if leading else text


def _stripped(text: str) -> tuple[str, bool]:
    """Without special tokens at both ends, and whether an end token was among them."""
    body = _without_front(text)
    trailing = _TRAILING_REVERSED.match(body[::-1])
    if not trailing:
        return body, False
    at = len(body) - trailing.end()
    return body[:at], any(token in body[at:] for token in _ENDS)


def _without_ends(text: str) -> str:
    """Without what may end a text or a turn, in whatever template."""
    trailing = _ANY_END_REVERSED.match(text[::-1])
    return text[: len(text) - trailing.end()] if trailing else text


def _is_begun(turn: _Turn) -> bool:
    return turn.role == "assistant" and not turn.ended


def _is_hh(prompt: str) -> bool:
    return as_messages(prompt) != [{"role": "user", "content": prompt}]


def _turns(text: str, template: TemplateName) -> list[_Turn]:
    """The turns of a text that begins like one of the templates; none otherwise."""
    for name, split in _SPLITS.items():
        if template in ("auto", name) and (turns := split(text)):
            return _without_made(turns)
    return []


def _without_made(turns: list[_Turn]) -> list[_Turn]:
    """Without what the template wrote into the system message, or with none, if that was all."""
    first, *rest = turns
    if first.role != "system":
        return turns
    made = _MADE_BY_LLAMA.match(first.content)  # a search would take quadratic time
    content = first.content[made.end() :] if made else first.content
    if content == _MADE_BY_QWEN:
        return rest
    return [first._replace(content=content), *rest] if content else rest


def _between(header: str, *ends: str) -> Callable[[str], list[_Turn]]:
    """Reads turns that begin with a header, whose group 1 is the role, and end with a token."""
    pattern = re.compile(header)

    def split(text: str) -> list[_Turn]:
        if not pattern.match(text.lstrip()):
            return []
        marks = list(pattern.finditer(text))
        stops = [mark.start() for mark in marks[1:]] + [len(text)]
        return [
            _turn(mark.group(1), text[mark.end() : stop], ends)
            for mark, stop in zip(marks, stops, strict=True)
        ]

    return split


def _turn(role: str, body: str, ends: tuple[str, ...]) -> _Turn:
    role = _ROLES.get(role, role)
    closed = body.rstrip()
    end = next((end for end in ends if closed.endswith(end)), None)
    content = body if end is None else closed.removesuffix(end)
    if role == "assistant" and (empty := _EMPTY_THINK.match(content)):
        content = content[empty.end() :]
    return _Turn(role, content, end is not None)


def _split_inst(text: str) -> list[_Turn]:
    """`[INST] user [/INST] assistant</s>` and so on; the last answer's `</s>` is off already."""
    marks = list(_INST.finditer(text))
    kinds = [mark.group() for mark in marks]
    if kinds != ["[INST]", "[/INST]"] * (len(kinds) // 2):
        return []
    pieces = _INST.split(text)
    front, asked, answers = pieces[0], pieces[1::2], pieces[2::2]
    system = _SYSTEM.fullmatch(front.strip())
    if front.strip() and not system:
        return []
    if asked and not system and (system := _SYSTEM.match(asked[0])):
        asked[0] = asked[0][system.end() :]
    turns = [_Turn("system", system.group(1) or system.group(2), True)] if system else []
    for number, (question, answer) in enumerate(zip(asked, answers, strict=True), 1):
        closed = answer.strip().removesuffix("<s>").rstrip().removesuffix("</s>").strip()
        turns.append(_Turn("user", question.strip(), True))
        turns.append(_Turn("assistant", closed, number < len(asked)))
    return turns


_ROLES: Mapping[str, str] = {"model": "assistant", "ipython": "tool"}
_SPLITS: Mapping[TemplateName, Callable[[str], list[_Turn]]] = {
    "chatml": _between(r"<\|im_start\|>(\w{1,64})\n", "<|im_end|>"),
    "llama3": _between(
        r"<\|start_header_id\|>(\w{1,64})<\|end_header_id\|>\n\n", "<|eot_id|>", "<|eom_id|>"
    ),
    "gemma": _between(r"<start_of_turn>(\w{1,64})\n", "<end_of_turn>"),
    "llama2": _split_inst,
}
