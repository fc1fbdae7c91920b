"""Where tables come from: JSON lines, JSON, Parquet, folders of those, and the hub.

A source is read here without a look at what its columns mean.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import InMemoryTable

from assay.errors import DataError
from reward_trainer.preferences.formats import COLUMNS

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
DROPPED = ".dropped"  # `a.dropped.jsonl` holds rows of `a.jsonl` that are not to be trained on
_ARROW_ERRORS = (pa.ArrowException, UnicodeError, OverflowError)


@dataclass(frozen=True)
class Source:
    """Rows as they were found.

    Attributes:
        name: file or hub id, for messages.
        pairs: the columns of the pair, one mapping per row.
        others: the remaining columns, or None.
        where: names row `i`, counted from 0, for messages.
    """

    name: str
    pairs: Sequence[Mapping[str, Any]]
    others: datasets.Dataset | None
    where: Callable[[int], str]


def is_table_file(path: Path) -> bool:
    """Whether the file name says that this module can read it."""
    return path.name.lower().endswith(SUFFIXES)


def read_file(path: Path) -> Source:
    """One file, by its suffix.

    Raises:
        DataError: it cannot be read, or is not what its suffix says; file and line are named.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _from_table(path.name, datasets.Dataset(InMemoryTable(pq.read_table(path))))
        return _from_rows(path, _json_rows(path))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_hub(name: str, split: str) -> Source:
    """One split of a dataset on the Hugging Face hub, or in its cache.

    Raises:
        DataError: no such dataset or split, or the hub does not answer.
    """
    try:
        table = datasets.load_dataset(name, split=split)
    except ConnectionError as error:
        raise DataError(
            f"the hub cannot be reached for {name}: {error}; name a file or a folder, or download "
            "the dataset first (`hf download --repo-type dataset`)"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{name}, split {split}, is not on the hub: {error}") from error
    return _from_table(f"{name} ({split})", table)


def _from_table(name: str, table: datasets.Dataset) -> Source:
    known = [column for column in table.column_names if column in COLUMNS]
    others = table.remove_columns(known) if len(known) < len(table.column_names) else None
    if known:
        pairs = table.select_columns(known).to_list()
    else:
        pairs = [dict.fromkeys(table.column_names)] * len(table)
    return Source(name, pairs, others, lambda row: f"{name}, row {row + 1}")


def _from_rows(path: Path, rows: Sequence[tuple[int, dict[str, Any]]]) -> Source:
    names = dict.fromkeys(name for _, row in rows for name in row if name not in COLUMNS)
    values = {name: [row.get(name) for _, row in rows] for name in names}
    unit = "line" if rows and rows[0][0] else "row"
    return Source(
        path.name,
        [row for _, row in rows],
        _table(values, path) if values else None,
        lambda row: f"{path.name}, {unit} {rows[row][0] or row + 1}",
    )


def _table(values: Mapping[str, list[Any]], path: Path) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_dict(dict(values))
    except _ARROW_ERRORS as error:
        if len(values) == 1:
            (name,) = values
            raise DataError(f"{path.name}: column {name!r} is not of one type: {error}") from error
        for name, column in values.items():
            _table({name: column}, path)
        raise


def _json_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line number and object of each row; an array's rows have line 0."""
    text = _text(path)
    if not path.name.lower().endswith((".jsonl", ".jsonl.gz")) and text.lstrip().startswith("["):
        rows = enumerate(_parse(text, path.name), start=1)
        return [(0, _object(row, f"{path.name}, row {number}")) for number, row in rows]
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return [
        (number, _object(_parse(line, where := f"{path.name}, line {number}"), where))
        for number, line in lines
    ]


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    except RecursionError as error:
        raise DataError(f"{where}: JSON of too many levels") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object")
    return row
