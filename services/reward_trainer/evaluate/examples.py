"""The data of an evaluation: prompts with better and worse completions, in any known format.

Formats are recognised by their columns:

| kind | `prompt` | `chosen`, `rejected` | further columns |
| --- | --- | --- | --- |
| pairs | see `reward_trainer.preferences.formats` | one completion each | any |
| RM-Bench | text | three texts each: concise, detailed plain, detailed Markdown | `domain` |
| RewardBench 2 | text | lists of texts | `subset`, `id`, `num_correct` |

RewardBench (1) is pairs whose column `subset` holds its names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np

from assay.errors import DataError
from assay.schemas.text import Completion, Prompt
from reward_trainer.evaluate.accuracy import ALL
from reward_trainer.evaluate.agreement import read_labels
from reward_trainer.evaluate.rm_bench import STYLES
from reward_trainer.evaluate.scoring import Text
from reward_trainer.evaluate.statistics import Array
from reward_trainer.preferences.formats import COLUMNS
from reward_trainer.preferences.reading import read_sources, table_of
from reward_trainer.preferences.roots import as_prompt, groups_of
from reward_trainer.preferences.sources import Source

Kind = Literal["pairs", "rm-bench", "reward-bench-2"]
_SEED = 0
_SUBSET = {"pairs": "subset", "rm-bench": "domain", "reward-bench-2": "subset"}


@dataclass(frozen=True)
class Example:
    """One prompt with its better and its worse completions."""

    prompt: Prompt
    chosen: tuple[Completion, ...]
    rejected: tuple[Completion, ...]
    where: str

    def texts(self) -> Iterator[Text]:
        """Every completion, the chosen ones first."""
        for side, completions in (("chosen", self.chosen), ("rejected", self.rejected)):
            for number, completion in enumerate(completions):
                name = side if len(completions) == 1 else f"{side}[{number}]"
                yield Text(self.prompt, completion, f"{self.where}, {name}")


@dataclass(frozen=True)
class Examples:
    """What is evaluated, one entry per row in each list.

    Attributes:
        kind: which rules apply.
        rows: the texts.
        subsets: what results are broken down by.
        roots: what the intervals resample.
        labels: columns of labels, as `read_labels` gives them, each of shape [rows].
        table: prompts and the columns that hold no texts.
    """

    kind: Kind
    rows: list[Example]
    subsets: list[str]
    roots: list[str]
    labels: dict[str, Array]
    table: datasets.Dataset

    @property
    def digest(self) -> str:
        """SHA-256 of the texts and their labels, whatever the order of the rows."""
        keys = sorted(" ".join(text.key for text in row.texts()) for row in self.rows)
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def read_examples(
    location: str,
    *,
    split: str | None = None,
    subset: str | None = None,
    group: str = "root",
    labels: Sequence[str] = (),
    limit: int | None = None,
    skip_unusable: bool = False,
) -> Examples:
    """Read preference pairs, RM-Bench or RewardBench 2.

    Args:
        location: a file, a folder or a hub id; see `read_preferences`.
        split: of a hub dataset or a folder.
        subset: column to break results down by; None = `subset` (RM-Bench: `domain`) if there.
        group: what the intervals resample: `root`, `prompt` or a column.
        labels: columns of labels, for pairs.
        limit: at most so many rows, drawn at random, the same ones each time.
        skip_unusable: leave out rows that are no pair, with one warning per file.

    Raises:
        DataError: nothing is there, a row cannot be used, or a column is missing.
    """
    sources = read_sources(location, split=split)
    kind = _kind(sources[0])
    rows, table = _pairs(sources, skip_unusable) if kind == "pairs" else _lists(sources, kind)
    if labels and kind != "pairs":
        raise DataError(f"labels are of preference pairs, and {location} is {kind}")
    subsets, roots = _subsets(table, subset, _SUBSET[kind]), groups_of(table, group)
    given = {name: read_labels(name, _label_column(table, name)) for name in labels}
    kept = _drawn(len(rows), limit)
    return Examples(
        kind=kind,
        rows=[rows[i] for i in kept],
        subsets=[subsets[i] for i in kept],
        roots=[roots[i] for i in kept],
        labels={name: values[kept] for name, values in given.items()},
        table=table.select(kept),
    )


def _drawn(rows: int, limit: int | None) -> list[int]:
    order = np.random.default_rng(_SEED).permutation(rows)[:limit]
    return [int(row) for row in np.sort(order)]


def _kind(source: Source) -> Kind:
    row = source.pairs[0] if source.pairs else {}
    columns = source.others.column_names if source.others is not None else []
    lists = all(_is_texts(row.get(side)) for side in ("chosen", "rejected"))
    if isinstance(row.get("prompt"), str) and lists:
        if "num_correct" in columns:
            return "reward-bench-2"
        if "domain" in columns:
            return "rm-bench"
    return "pairs"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _pairs(
    sources: Sequence[Source], skip_unusable: bool
) -> tuple[list[Example], datasets.Dataset]:
    table = table_of(sources, skip_unusable=skip_unusable)
    places = [source.where(row) for source in sources for row in range(len(source.pairs))]
    if len(places) != len(table):
        places = [f"row {row} of those that can be used" for row in range(1, len(table) + 1)]
    columns = (table["prompt"], table["chosen"], table["rejected"])
    rows = [
        Example(as_prompt(prompt), (as_prompt(chosen),), (as_prompt(rejected),), where)
        for prompt, chosen, rejected, where in zip(*columns, places, strict=True)
    ]
    return rows, table


def _lists(sources: Sequence[Source], kind: Kind) -> tuple[list[Example], datasets.Dataset]:
    rows = [
        _list_row(row, kind, source.where(index))
        for source in sources
        for index, row in enumerate(source.pairs)
    ]
    others = [source.others for source in sources if source.others is not None]
    prompts = datasets.Dataset.from_dict({"prompt": [row.prompt for row in rows]})
    table = datasets.concatenate_datasets([prompts, datasets.concatenate_datasets(others)], axis=1)
    return rows, table


def _list_row(row: Mapping[str, Any], kind: Kind, where: str) -> Example:
    for column in ("prompt", "chosen", "rejected"):
        texts = [row.get(column)] if column == "prompt" else row.get(column)
        if not isinstance(texts, list) or not texts:
            raise DataError(f"{where}: column {column!r} holds no list of texts")
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{where}: column {column!r} holds an empty text, or no text")
        if column != "prompt" and kind == "rm-bench" and len(texts) != STYLES:
            raise DataError(f"{where}: column {column!r} holds {len(texts)} texts, not {STYLES}")
    return Example(row["prompt"], tuple(row["chosen"]), tuple(row["rejected"]), where)


def _label_column(table: datasets.Dataset, name: str) -> list[Any]:
    others = [column for column in table.column_names if column not in COLUMNS]
    if name not in others:
        found = ", ".join(others) or "none"
        raise DataError(f"no label column {name!r}: beside the pairs there are {found}")
    return list(table[name])


def _subsets(table: datasets.Dataset, column: str | None, default: str) -> list[str]:
    if column is None and default not in table.column_names:
        return [ALL] * len(table)
    name = column or default
    if name not in table.column_names:
        found = ", ".join(table.column_names)
        raise DataError(f"no column {name!r} for the subsets: there are {found}")
    values = list(table[name])
    for row, value in enumerate(values, start=1):
        if value is None or isinstance(value, list | dict):
            raise DataError(f"row {row}: column {name!r} holds no name of a subset")
    return [str(value) for value in values]
