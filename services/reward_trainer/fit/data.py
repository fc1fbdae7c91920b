"""Preference pairs read from JSON lines, each with the conversation root that it belongs to."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import DataError
from assay.schemas.text import as_messages
from reward_trainer.fit.recipe import Recipe, Source

_COLUMNS = ("prompt", "chosen", "rejected")
_NO_WORD = re.compile(r"\W+")


@dataclass(frozen=True)
class Pair:
    """One human judgement: `chosen` is the better completion of the prompt."""

    source: str
    root: str
    prompt: str
    chosen: str
    rejected: str

    @property
    def texts(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The two texts that are scored: (prompt, chosen) and (prompt, rejected)."""
        return (self.prompt, self.chosen), (self.prompt, self.rejected)

    @property
    def extra_length(self) -> int:
        """By how many characters the chosen completion is longer; negative if it is shorter."""
        return len(self.chosen) - len(self.rejected)


def read_sources(folder: Path, recipe: Recipe) -> list[Pair]:
    """All pairs of the recipe's files, those for evaluation too, in the recipe's order.

    Raises:
        DataError: a file is missing, or a row of it cannot be used.
    """
    return [pair for source in recipe.sources for pair in read_pairs(folder, source)]


def read_pairs(folder: Path, source: Source) -> list[Pair]:
    """The pairs of `NAME.jsonl` or `NAME.jsonl.gz` without repeated rows.

    Raises:
        DataError: the file is missing or empty, or a row lacks a column, is empty or has the same
            text on both sides; the message names file and line.
    """
    path = _find(folder, source.name)
    pairs = [_pair(source, row, f"{path.name}, line {line}") for line, row in _rows(path)]
    if not pairs:
        raise DataError(f"{path} has no rows")
    return list(dict.fromkeys(pairs))


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} has neither {name}.jsonl nor {name}.jsonl.gz")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as file:
        try:
            for line, text in enumerate(file, start=1):
                yield line, _object(text, f"{path.name}, line {line}")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object")
    return row


def _pair(source: Source, row: dict[str, Any], where: str) -> Pair:
    columns = (*_COLUMNS, source.root) if source.root == "topic" else _COLUMNS
    for column in columns:
        value = row.get(column)
        if not isinstance(value, str):
            raise DataError(f"{where}: no text in column {column!r}")
        if not value.strip():
            raise DataError(f"{where}: column {column!r} is empty")
    if row["chosen"] == row["rejected"]:
        raise DataError(f"{where}: chosen and rejected are the same text")
    return Pair(source.name, root_of(source, row), row["prompt"], row["chosen"], row["rejected"])


def root_of(source: Source, row: dict[str, Any]) -> str:
    """What a row must share a part with: no root has rows in two parts of a split.

    `topic` is the column of that name. The others go by the first human turn without case and
    punctuation: `turn` and `instruction` by its first paragraph (an instruction's input follows
    after an empty line), `chat` by the first line of the chat that it quotes.
    """
    if source.root == "topic":
        return f"topic:{row['topic']}"
    turn = str(as_messages(row["prompt"])[0]["content"]).strip()
    text = turn.partition("\n")[2].partition("\n")[0] if source.root == "chat" else ""
    return _NO_WORD.sub(" ", (text or turn.partition("\n\n")[0]).lower()).strip()


def plain_prompt(prompt: str) -> str:
    """The bare question of a prompt with a single human turn; longer chats stay as they are."""
    messages = as_messages(prompt)
    return str(messages[0]["content"]) if len(messages) == 1 else prompt


def data_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 of the pairs, whatever their order."""
    rows = sorted(json.dumps([pair.prompt, pair.chosen, pair.rejected]) for pair in pairs)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
