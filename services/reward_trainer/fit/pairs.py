"""Training pairs: the rows of a table, each with its conversation root and what the loss needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from assay.errors import DataError
from assay.models.inputs import as_completion_text
from assay.schemas.text import Completion, Prompt, as_messages
from reward_trainer.fit.recipe import Recipe, Source
from reward_trainer.preferences.formats import COLUMNS, pair_of, plain
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import RootKind, as_prompt, groups_of, root_of


@dataclass(frozen=True)
class Pair:
    """One judgement: `chosen` is the better completion of the prompt.

    Attributes:
        source: the file it comes from; empty for a table of its own.
        row: where in the source, counted from 1.
        root: what a pair must share a part of a split with.
        weight: times its loss.
        strength: ensemble mean of score(chosen) - score(rejected), if it was measured.
        margin: the difference of scores that the loss asks for; None = the recipe's choice.
        smoothing: how probable it is that the label is wrong, in the loss.
        flipped: whether the label was turned round before it came here.
    """

    source: str
    row: int
    root: str
    prompt: Prompt
    chosen: Completion
    rejected: Completion
    weight: float = 1.0
    strength: float | None = None
    margin: float | None = None
    smoothing: float = 0.0
    flipped: bool = False

    def swapped(self) -> Pair:
        """The same texts under the opposite label."""
        return replace(self, chosen=self.rejected, rejected=self.chosen)

    def as_labelled(self) -> Pair:
        """The pair under its first label: what denoising made of it is nothing to measure by."""
        return replace(self.swapped(), flipped=False) if self.flipped else self

    @property
    def extra_length(self) -> int:
        """By how many characters the chosen completion is longer; negative if it is shorter."""
        return len(as_completion_text(self.chosen)) - len(as_completion_text(self.rejected))

    @property
    def key(self) -> str:
        """Equal for pairs of the same texts and the same label."""
        return json.dumps([plain_json(side) for side in (self.prompt, self.chosen, self.rejected)])

    @property
    def name(self) -> str:
        """How an error names it."""
        return f"{self.source} row {self.row}".strip()


def read_sources(folder: Path, recipe: Recipe) -> list[Pair]:
    """All pairs of the recipe's files, those for evaluation too, in the recipe's order.

    Raises:
        DataError: a file is missing, or a row of it cannot be used.
    """
    return [pair for source in recipe.sources for pair in _read_source(folder, source)]


def _read_source(folder: Path, source: Source) -> list[Pair]:
    table = read_preferences(str(find_source(folder, source.name)))
    return without_repeats(pairs_of(table, _roots(table, source), source.name))


def find_source(folder: Path, name: str) -> Path:
    """The file of a source.

    Raises:
        DataError: there is none.
    """
    for candidate in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} has neither {name}.jsonl nor {name}.jsonl.gz")


def _roots(table: datasets.Dataset, source: Source) -> list[str]:
    if source.root == "topic":
        return [f"topic:{topic}" for topic in groups_of(table, "topic")]
    kind: RootKind = "chat" if source.root == "chat" else "turn"
    return [root_of(prompt, kind) for prompt in table["prompt"]]


def pairs_of(
    table: datasets.Dataset,
    roots: Sequence[str],
    source: str = "",
    numbers: Mapping[str, Sequence[Any]] | None = None,
) -> list[Pair]:
    """The rows of a table of preference pairs.

    Args:
        table: as `read_preferences` gives it.
        roots: the root of each row.
        source: its name.
        numbers: values of `weight`, `strength`, `margin`, `smoothing` or `flipped`, one a row.

    Raises:
        DataError: there are no rows, a column is missing, or a row is empty or has the same text
            on both sides; the row is named.
    """
    if not len(table):
        raise DataError(f"{source or 'the table'} has no rows")
    texts = {name: list(table[name]) for name in COLUMNS if name in table.column_names}
    pairs = []
    for index, root in enumerate(roots):
        where = f"{source} row {index + 1}".strip()
        sides = pair_of({name: plain(column[index]) for name, column in texts.items()}, where)
        values: dict[str, Any] = {name: row[index] for name, row in (numbers or {}).items()}
        prompt, chosen, rejected = map(as_prompt, sides)
        pairs.append(Pair(source, index + 1, root, prompt, chosen, rejected, **values))
    return pairs


def without_repeats(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair once, the first time that it occurs."""
    return list({pair.key: pair for pair in reversed(pairs)}.values())[::-1]


def plain_json(text: Prompt | Completion) -> Any:
    """A text or messages as JSON holds them."""
    return text if isinstance(text, str) else as_messages(text)


def bare_prompt(prompt: Prompt) -> Prompt:
    """The bare question of a prompt with a single human turn; longer chats stay as they are."""
    messages = as_messages(prompt)
    return str(messages[0]["content"]) if len(messages) == 1 else prompt
