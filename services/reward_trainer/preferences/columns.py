"""Columns taken from tables, checked, and put into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from assay.errors import DataError


def numbers(table: datasets.Dataset, column: str, remedy: str) -> NDArray[np.float64]:
    """A column of finite numbers, shape [rows].

    Args:
        table: preference pairs.
        column: its name.
        remedy: what the reader of an error can do.

    Raises:
        DataError: the column or one of its values is missing, or no finite number.
    """
    if column not in table.column_names:
        raise DataError(f"no column {column!r}: {remedy}")
    values = list(table[column])
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            shown = "nothing" if value is None else repr(value)
            raise DataError(f"row {row + 1}: column {column!r} holds {shown}, no number: {remedy}")
    return np.array(values, dtype=np.float64)


def lists_of_numbers(table: datasets.Dataset, column: str, remedy: str) -> NDArray[np.float64]:
    """A column of equally long lists of finite numbers, shape [rows, length].

    Raises:
        DataError: the column is missing, or a row's list is missing, empty, of another length, or
            holds something else.
    """
    if column not in table.column_names:
        raise DataError(f"no column {column!r}: {remedy}")
    values = list(table[column])
    length = len(values[0]) if values and isinstance(values[0], list) else 0
    for row, value in enumerate(values):
        if not isinstance(value, list) or not value or len(value) != length:
            raise DataError(
                f"row {row + 1}: column {column!r} has no {length or 1} numbers: {remedy}"
            )
        if not all(isinstance(part, int | float) and np.isfinite(part) for part in value):
            raise DataError(f"row {row + 1}: column {column!r} holds no finite numbers: {remedy}")
    return np.array(values, dtype=np.float64)


def with_columns(table: datasets.Dataset, columns: Mapping[str, Sequence[Any]]) -> datasets.Dataset:
    """The table with new columns behind the old ones; one of an old name takes its place.

    Args:
        table: at least one column of it stays.
        columns: name to values, one per row.
    """
    old = [name for name in columns if name in table.column_names]
    parts = [table.remove_columns(old), datasets.Dataset.from_dict(dict(columns))]
    joined = datasets.concatenate_datasets(parts, axis=1)
    return joined.select_columns([*dict.fromkeys([*table.column_names, *columns])])
