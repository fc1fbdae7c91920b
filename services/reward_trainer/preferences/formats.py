"""One preference pair as `prompt`, `chosen` and `rejected`, whatever format its row is in.

Four formats: texts in three columns; chat messages in three columns or, with an implicit prompt,
whole conversations in two; HH transcripts in two; and lists of turns, as in
`fnlp/hh-rlhf-strength-cleaned`. A pair is all text or all messages, as TRL wants it.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from assay.errors import DataError
from assay.schemas.text import as_messages

Messages: TypeAlias = list[dict[str, Any]]
Text: TypeAlias = str | Messages
Kind = Literal["text", "messages"]

COLUMNS = ("prompt", "chosen", "rejected")
_SIDES = ("chosen", "rejected")
_REPLY = "\n\nAssistant:"
_REPLY_ROLES = ("assistant", "tool")
_EXPECTED = (
    "expected `prompt`, `chosen` and `rejected` (texts or lists of messages), or only `chosen` and "
    "`rejected` (whole conversations, HH transcripts or lists of turns)"
)


class PairTexts(NamedTuple):
    """One pair: three texts, or three lists of messages."""

    prompt: Text
    chosen: Text
    rejected: Text

    @property
    def kind(self) -> Kind:
        """How the pair is written."""
        return "text" if isinstance(self.prompt, str) else "messages"


def pair_of(row: Mapping[str, Any], where: str) -> PairTexts:
    """The pair that a row of any of the formats holds.

    Args:
        row: the row's columns; others than `COLUMNS` are not looked at.
        where: how an error names the row.

    Raises:
        DataError: a column is missing or of the wrong type, something is empty, the two
            conversations share no prompt, or both completions are the same.
    """
    _check_columns(row, where)
    pair = _read(row, where)
    for column, value in zip(COLUMNS, pair, strict=True):
        _check_filled(value, column, where)
    if pair.chosen == pair.rejected:
        raise DataError(f"{where}: chosen and rejected are the same")
    return pair


def plain(value: Any) -> Any:
    """A text as it is; messages without the fields that only other messages of the table have."""
    if not isinstance(value, list):
        return value
    return [
        {key: part for key, part in message.items() if part is not None or key == "content"}
        for message in value
    ]


def _check_columns(row: Mapping[str, Any], where: str) -> None:
    missing = [side for side in _SIDES if row.get(side) is None]
    if len(missing) == len(_SIDES):
        found = ", ".join(map(str, row)) or "none"
        raise DataError(f"{where}: columns {found}; {_EXPECTED}")
    if missing:
        raise DataError(f"{where}: nothing in column {missing[0]!r}")


def _read(row: Mapping[str, Any], where: str) -> PairTexts:
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    kinds = {_kind(row[side], side, where) for side in _SIDES}
    if len(kinds) > 1:
        raise DataError(f"{where}: chosen and rejected are of different types")
    kind = kinds.pop()
    if kind == "turns":
        return _split_messages(_turns(chosen), _turns(rejected), where)
    if kind == "messages":
        return _from_messages(prompt, chosen, rejected, where)
    if prompt is None:
        return _split_transcripts(chosen, rejected, where)
    if _kind(prompt, "prompt", where) == "text":
        return PairTexts(prompt, chosen, rejected)
    return PairTexts(_messages(prompt, "prompt", where), _reply(chosen), _reply(rejected))


def _kind(value: Any, column: str, where: str) -> Literal["text", "messages", "turns"]:
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and value:
        if all(isinstance(part, dict) for part in value):
            return "messages"
        if column in _SIDES and all(isinstance(part, str) for part in value):
            return "turns"
    raise DataError(f"{where}: column {column!r} holds neither text nor messages")


def _from_messages(prompt: Any, chosen: Messages, rejected: Messages, where: str) -> PairTexts:
    chosen, rejected = (
        _messages(side, name, where) for side, name in zip((chosen, rejected), _SIDES, strict=True)
    )
    if prompt is None or not (_are_replies(chosen) and _are_replies(rejected)):
        return _split_messages(chosen, rejected, where)
    if _kind(prompt, "prompt", where) == "messages":
        return PairTexts(_messages(prompt, "prompt", where), chosen, rejected)
    return PairTexts(as_messages(prompt), chosen, rejected)


def _messages(value: Messages, column: str, where: str) -> Any:
    for index, message in enumerate(value):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role or not isinstance(content, str | list | None):
            raise DataError(f"{where}: {column}[{index}] is no message with role and content")
    return plain(value)


def _are_replies(messages: Messages) -> bool:
    return all(message["role"] in _REPLY_ROLES for message in messages)


def _reply(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def _turns(turns: Sequence[str]) -> Messages:
    """Turns by alternating speakers, of whom the assistant has the last word."""
    last = len(turns) - 1
    return [
        {"role": "user" if (last - index) % 2 else "assistant", "content": turn}
        for index, turn in enumerate(turns)
    ]


def _split_messages(chosen: Messages, rejected: Messages, where: str) -> PairTexts:
    """Two conversations at the message in which they part."""
    if chosen == rejected:
        raise DataError(f"{where}: chosen and rejected are the same")
    longest = min(len(chosen), len(rejected)) - 1
    cut = 0
    while cut < longest and chosen[cut] == rejected[cut]:
        cut += 1
    if cut == 0:
        raise DataError(f"{where}: chosen and rejected share no prompt")
    if not (_are_replies(chosen[cut:]) and _are_replies(rejected[cut:])):
        raise DataError(f"{where}: chosen and rejected differ before the last reply")
    return PairTexts(chosen[:cut], chosen[cut:], rejected[cut:])


def _split_transcripts(chosen: str, rejected: str, where: str) -> PairTexts:
    """Two HH transcripts after the last `Assistant:` that they share; replies without margins."""
    mark = os.path.commonprefix([chosen, rejected]).rfind(_REPLY)
    if mark < 0:
        raise DataError(
            f"{where}: no column 'prompt', and chosen and rejected share no text up to an "
            "`Assistant:` turn"
        )
    cut = mark + len(_REPLY)
    return PairTexts(chosen[:cut], chosen[cut:].strip(), rejected[cut:].strip())


def _check_filled(value: Text, column: str, where: str) -> None:
    texts = [value] if isinstance(value, str) else [_content(message) for message in value]
    if not any(text.strip() for text in texts):
        raise DataError(f"{where}: column {column!r} is empty")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: column {column!r} holds half of a surrogate pair") from None


def _content(message: dict[str, Any]) -> str:
    """What a message says; other than text (images, tool calls) counts as said."""
    content = message.get("content")
    return content if isinstance(content, str) else str(content or message.get("tool_calls") or "")
