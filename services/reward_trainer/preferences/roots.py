"""What pairs belong together: conversation roots, and groups for splits, folds and intervals."""

from __future__ import annotations

import re
from typing import Any, Literal

import datasets

from assay.errors import DataError
from assay.schemas.text import Message, Prompt, as_messages, prompt_digest
from reward_trainer.preferences.formats import plain

RootKind = Literal["turn", "chat"]
_NO_WORD = re.compile(r"\W+")


def as_prompt(value: Any) -> Prompt:
    """A prompt or completion of a table as scoring takes it."""
    value = plain(value)
    return value if isinstance(value, str) else [Message.model_validate(m) for m in value]


def root_of(prompt: Any, kind: RootKind = "turn") -> str:
    """What a conversation starts from: the first human turn without case and punctuation.

    An instruction's input follows after an empty line and does not count, so later turns of a chat
    and other inputs of an instruction have the same root. Splits go by roots, never by rows.

    Args:
        prompt: text, HH transcript or messages.
        kind: `chat` for a prompt whose first line asks to continue the chat quoted below: the root
            is that chat's first line.
    """
    turn = _first_human_turn(prompt).strip()
    text = turn.partition("\n")[2].partition("\n")[0] if kind == "chat" else ""
    return _NO_WORD.sub(" ", (text or turn.partition("\n\n")[0]).lower()).strip()


def _first_human_turn(prompt: Any) -> str:
    messages = as_messages(as_prompt(prompt))
    human = next((m for m in messages if m["role"] == "user"), messages[0])
    content = human.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content or ""


def groups_of(table: datasets.Dataset, by: str) -> list[str]:
    """The group of each row, shape [rows].

    Args:
        table: preference pairs.
        by: `prompt` (however it is written), `root` (see `root_of`), or the name of a column.

    Raises:
        DataError: there is no such column, or a row has nothing in it.
    """
    if by == "prompt":
        return [prompt_digest(as_prompt(prompt)) for prompt in table["prompt"]]
    if by == "root":
        return [root_of(prompt) for prompt in table["prompt"]]
    if by not in table.column_names:
        found = ", ".join(table.column_names)
        raise DataError(f"no column {by!r} to group by: there are prompt, root and {found}")
    groups = list(table[by])
    for row, group in enumerate(groups):
        if group is None or group != group or group == "":
            raise DataError(f"row {row + 1}: nothing in column {by!r} to group by")
    return [str(group) for group in groups]
