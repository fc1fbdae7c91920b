"""The ten scores that `fnlp/hh-rlhf-strength-cleaned` carries (arXiv 2401.06080)."""

from __future__ import annotations

import datasets
import numpy as np

from assay.errors import DataError
from reward_trainer.preferences.columns import lists_of_numbers, numbers
from reward_trainer.strength.differences import Measured, check_members

VERSION = "released-scores"
_CHOSEN, _REJECTED = "chosen_score_list", "rejected_score_list"
_MEAN = "mean preference difference"
_TOLERANCE = 0.01  # the released mean and scores are rounded
_REMEDY = "--released-scores reads the columns of fnlp/hh-rlhf-strength-cleaned"


def released(table: datasets.Dataset) -> Measured:
    """Differences from the scores that the table carries.

    Raises:
        DataError: a column is missing, the two lists of a row differ in length, or the released
            mean is not theirs.
    """
    chosen = lists_of_numbers(table, _CHOSEN, _REMEDY)
    rejected = lists_of_numbers(table, _REJECTED, _REMEDY)
    if chosen.shape != rejected.shape:
        raise DataError(
            f"{_CHOSEN} has {chosen.shape[1]} scores a row, and {_REJECTED} {rejected.shape[1]}"
        )
    differences = chosen - rejected
    check_members(differences.shape[1], _CHOSEN)
    if _MEAN in table.column_names:
        wrong = abs(differences.mean(axis=1) - numbers(table, _MEAN, _REMEDY)) > _TOLERANCE
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0]) + 1
            raise DataError(
                f"row {row}: {_MEAN!r} is not the mean of the row's scores: the columns are "
                "misaligned"
            )
    return Measured(VERSION, differences, truncated=0)
