"""`read_preferences`: any source of preference pairs as one table."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets

from assay.errors import DataError
from reward_trainer.preferences.formats import COLUMNS, PairTexts, pair_of
from reward_trainer.preferences.sources import (
    DROPPED,
    SUFFIXES,
    Source,
    is_table_file,
    read_file,
    read_hub,
)

_LOG = logging.getLogger(__name__)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DEFAULT_SPLIT = "train"


def read_preferences(
    location: str, *, split: str | None = None, skip_unusable: bool = False
) -> datasets.Dataset:
    """Read preference pairs.

    Args:
        location: a `.jsonl`, `.json` (either may be gzipped) or `.parquet` file, a folder of those,
            or a hub id `org/name`.
        split: of a hub dataset (default `train`), or of a folder: the files whose name holds it.
        skip_unusable: leave out rows that are no pair, with one warning per file, instead of
            stopping at the first.

    Returns:
        A table with `prompt`, `chosen` and `rejected` (all text, or all lists of messages) and
        every other column of the source as it was. `formats` has what is understood.

    Raises:
        DataError: nothing is there, it cannot be read, or a row is no pair; file and line, or row,
            are named.
    """
    return table_of(read_sources(location, split=split), skip_unusable=skip_unusable)


def read_sources(location: str, *, split: str | None = None) -> list[Source]:
    """The rows behind `read_preferences`, as they were found: one source per file.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return [read_file(file) for file in _files(path, split)]
    if not path.exists() and _HUB_ID.fullmatch(location) and not is_table_file(path):
        return [read_hub(location, split or _DEFAULT_SPLIT)]
    if not path.exists():
        raise DataError(f"{location}: no such file or folder, and no hub id of the form org/name")
    if not is_table_file(path):
        raise DataError(f"{location}: expected a file that ends in one of {', '.join(SUFFIXES)}")
    if split is not None:
        raise DataError(f"{location} is one file, which has no split {split!r}")
    return [read_file(path)]


def table_of(sources: Sequence[Source], *, skip_unusable: bool = False) -> datasets.Dataset:
    """The preference pairs of some sources as one table; see `read_preferences`.

    Raises:
        DataError: a row is no pair, or the columns of the sources do not fit together.
    """
    tables = [_pairs(source, skip_unusable) for source in sources]
    try:
        return datasets.concatenate_datasets(tables)
    except (ValueError, TypeError) as error:
        names = ", ".join(source.name for source in sources)
        raise DataError(f"the columns of {names} do not fit together: {error}") from error


def _files(folder: Path, split: str | None) -> list[Path]:
    tables = (path for path in folder.iterdir() if path.is_file() and is_table_file(path))
    files = sorted(path for path in tables if f"{DROPPED}." not in path.name)
    if not files:
        raise DataError(f"{folder} has no file that ends in one of {', '.join(SUFFIXES)}")
    if split is None:
        return files
    word = re.compile(rf"(?<![a-z0-9]){re.escape(split)}(?![a-z0-9])", re.IGNORECASE)
    named = [path for path in files if word.search(path.name)]
    if not named:
        raise DataError(f"{folder} has no file with {split!r} in its name")
    return named


def _pairs(source: Source, skip_unusable: bool) -> datasets.Dataset:
    if not source.pairs:
        raise DataError(f"{source.name} has no rows")
    pairs = _usable(source, skip_unusable)
    columns = zip(COLUMNS, zip(*pairs.values(), strict=True), strict=True)
    try:
        table = datasets.Dataset.from_dict({name: list(texts) for name, texts in columns})
    except (ValueError, OverflowError) as error:
        raise DataError(f"{source.name}: the messages do not fit one table: {error}") from error
    if source.others is None:
        return table
    others = source.others if len(pairs) == len(source.pairs) else source.others.select(list(pairs))
    return datasets.concatenate_datasets([table, others], axis=1)


def _usable(source: Source, skip_unusable: bool) -> dict[int, PairTexts]:
    """The pairs by row."""
    pairs: dict[int, PairTexts] = {}
    errors: list[DataError] = []
    for index, row in enumerate(source.pairs):
        try:
            pairs[index] = pair_of(row, source.where(index))
        except DataError as error:
            errors.append(error)
            if not skip_unusable:
                break
    if errors and not (skip_unusable and pairs):
        raise errors[0]
    if errors:
        message = "%s: %d of %d rows left out, the first of them for: %s"
        _LOG.warning(message, source.name, len(errors), len(source.pairs), errors[0].detail)
    _check_one_kind(pairs, source)
    return pairs


def _check_one_kind(pairs: Mapping[int, PairTexts], source: Source) -> None:
    first = next(iter(pairs))
    for index, pair in pairs.items():
        if pair.kind != pairs[first].kind:
            here, there = source.where(index), source.where(first)
            raise DataError(f"{here} holds {pair.kind}, and {there} {pairs[first].kind}")
