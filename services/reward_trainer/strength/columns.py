"""The strength columns of a table: what `assay strength` writes, and `denoise` and `fit` read.

The sign is that of the current label: positive = the ensemble agrees with `chosen`.
"""

from __future__ import annotations

from dataclasses import dataclass

import datasets
import numpy as np

from assay.errors import DataError
from assay.rewards.strength import strength
from reward_trainer.preferences.columns import lists_of_numbers, numbers, with_columns
from reward_trainer.strength.differences import Array

MEAN = "strength_mean"
STD = "strength_std"
VOTES = "strength_votes"
MEMBERS = "strength_members"
QUANTILE = "strength_quantile"
DIFFERENCES = "strength_differences"
MODEL = "strength_model"

_REMEDY = "run `assay strength` on the table first"
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class StrengthColumns:
    """A table's strength columns, checked.

    Attributes:
        mean: shape [rows].
        quantile: share of the pairs that were weaker when the table was measured, shape [rows].
        differences: shape [rows, members].
        model: the version that measured all of them.
    """

    mean: Array
    quantile: Array
    differences: Array
    model: str


def add_strength(table: datasets.Dataset, differences: Array, model: str) -> datasets.Dataset:
    """The table with its strength columns, in place of any that it has.

    Args:
        table: preference pairs.
        differences: score(chosen) - score(rejected), shape [pairs, members].
        model: the version that measured them.
    """
    rows = [strength(row, None) for row in differences]
    columns = {
        MEAN: [row.mean for row in rows],
        STD: [row.std for row in rows],
        VOTES: [row.votes for row in rows],
        MEMBERS: [len(row) for row in differences],
        QUANTILE: quantiles(np.array([row.mean for row in rows])).tolist(),
        DIFFERENCES: differences.tolist(),
        MODEL: [model] * len(rows),
    }
    return with_columns(table, columns)


def quantiles(values: Array) -> Array:
    """Share of the values that are smaller, equal ones counting half of those before them.

    Without ties these are 0, 1/n ... (n - 1)/n, so `quantile < q` takes the lowest share q.

    Args:
        values: shape [n].

    Returns:
        Shape [n], in [0, 1).
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    smaller = np.cumsum(counts) - counts
    return np.asarray((smaller + (counts - 1) / 2)[places] / len(values))


def read_strength(table: datasets.Dataset) -> StrengthColumns:
    """The strength columns of a table.

    Raises:
        DataError: a column is missing or holds no numbers, the rows were measured by several
            models or by one member, or the columns contradict each other.
    """
    mean = numbers(table, MEAN, _REMEDY)
    quantile = numbers(table, QUANTILE, _REMEDY)
    differences = lists_of_numbers(table, DIFFERENCES, _REMEDY)
    if differences.shape[1] < 2:
        raise DataError(f"{DIFFERENCES!r} has one member: {_REMEDY}, with an ensemble")
    wrong = abs(differences.mean(axis=1) - mean) > _TOLERANCE * (1 + abs(mean))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + 1
        raise DataError(
            f"row {row}: {MEAN!r} is not the mean of {DIFFERENCES!r}: the columns are misaligned; "
            f"{_REMEDY}"
        )
    return StrengthColumns(mean, quantile, differences, _one_model(table))


def _one_model(table: datasets.Dataset) -> str:
    if MODEL not in table.column_names:
        raise DataError(f"no column {MODEL!r}: {_REMEDY}")
    models = sorted({str(model) for model in table[MODEL]})
    if len(models) > 1:
        raise DataError(
            f"the rows were measured by {', '.join(models)}: strengths of several models do not "
            "compare; measure the table as a whole"
        )
    return models[0]
