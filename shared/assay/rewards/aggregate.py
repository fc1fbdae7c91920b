"""From the members' values to one number per completion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInputError
from assay.schemas.scoring import Aggregate

Values = NDArray[np.float64]


def aggregate(values: Values, how: Aggregate, lcb_k: float = 1.0) -> Values:
    """One number per row: `mean`, `min`, or `lcb = mean - lcb_k * std` (population std).

    Args:
        values: one column per member, shape [rows, members]; NaN stays NaN.
        how: which number.
        lcb_k: standard deviations that `lcb` takes off, >= 0.

    Returns:
        Shape [rows].
    """
    if how == "min":
        lowest: Values = values.min(axis=1)
        return lowest
    mean: Values = values.mean(axis=1)
    return mean if how == "mean" else mean - lcb_k * spread(values)


def spread(values: Values) -> Values:
    """Population standard deviation over members, shape [rows]."""
    std: Values = values.std(axis=1)
    return std


def or_none(values: Values) -> list[Any]:
    """Values of rows as JSON has them: None for a row of NaN, which has no score.

    Args:
        values: shape [rows], or [rows, members].
    """
    rows = values[:, None] if values.ndim == 1 else values
    gaps = np.asarray(np.isnan(rows).any(axis=1))
    return [None if gap else row for row, gap in zip(values.tolist(), gaps, strict=True)]


def check_aggregate(how: Aggregate, members: int, calibrated: bool) -> None:
    """Refuse an aggregate that would pretend to know how sure the model is.

    Raises:
        InvalidInputError: `lcb` or `min` of one member, or of members whose offsets were never
            set to a common mean.
    """
    if how == "mean":
        return
    if members == 1:
        raise InvalidInputError(f"aggregate {how} needs an ensemble, and this model has one member")
    if not calibrated:
        raise InvalidInputError(f"aggregate {how} needs a calibrated ensemble")
