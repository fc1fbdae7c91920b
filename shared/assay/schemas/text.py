"""Prompts and completions as they arrive, and the canonical form that baselines are keyed by."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag

from assay.schemas.base import Inbound

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


class Message(Inbound):
    """One chat message. Fields beyond these (`tool_calls`, `name` ...) go to the chat template."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    role: str = Field(min_length=1, max_length=64, description="`user`, `assistant`, `system` ...")
    content: str | Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = Field(
        default=None, description="Text, or content parts for templates that take them."
    )


def _only_replies(messages: list[Message]) -> list[Message]:
    for message in messages:
        if message.role not in ("assistant", "tool"):
            raise ValueError(
                f"a completion holds assistant and tool messages only, not {message.role!r}"
            )
    return messages


def _text_or_messages(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<messages>" if isinstance(value, list) else None


# Tags keep validation errors to the branch that was meant; they end up in the locations of errors,
# where the angle brackets tell them from fields.
_BY_TYPE = Discriminator(
    _text_or_messages,
    custom_error_type="text_or_messages",
    custom_error_message="Input should be a string or a list of messages",
)

Prompt: TypeAlias = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Message], Field(min_length=1, fail_fast=True), Tag("<messages>")],
    _BY_TYPE,
]
Completion: TypeAlias = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")]
    | Annotated[
        list[Message],
        Field(min_length=1, fail_fast=True),
        AfterValidator(_only_replies),
        Tag("<messages>"),
    ],
    _BY_TYPE,
]


def as_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as chat messages: a string becomes one user turn, HH-style text its turns.

    HH style is `\\n\\nHuman: ...\\n\\nAssistant: ...` and so on, ending in an open `Assistant:`.
    A last assistant turn that is already begun is kept as a message; the completion continues it.
    """
    if not isinstance(prompt, str):
        return [message.model_dump(exclude_unset=True) for message in prompt]
    turns = _hh_turns(prompt)
    return turns if turns else [{"role": "user", "content": prompt}]


def _hh_turns(text: str) -> list[dict[str, Any]]:
    marks = list(_HH_TURN.finditer(text))
    if not marks or marks[0].group(1) != "Human" or text[: marks[0].start()].strip():
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        {"role": _HH_ROLES[mark.group(1)], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    if turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return turns


def prompt_digest(prompt: Prompt) -> str:
    """SHA-256 of a prompt's canonical messages: equal however the same turns were written."""
    text = json.dumps(as_messages(prompt), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
