"""Soft labels for trainers that know none: a pair repeated (1 - alpha) : alpha in both orders."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import datasets
import numpy as np

from assay.errors import DataError
from reward_trainer.denoise import columns
from reward_trainer.denoise.denoising import resign
from reward_trainer.preferences.columns import numbers, with_columns

_MAX_COPIES = 20


def expand(table: datasets.Dataset) -> datasets.Dataset:
    """Repeat every pair so that plain training has the loss of label smoothing.

        (1 - a) softplus(-(delta - m)) + a softplus(delta - m)

    is the mean of softplus(-(delta - m)) over N (1 - a) copies and softplus(-(-delta + m)) over
    N a swapped ones: swapped copies have the opposite margin. Pairs without smoothing are repeated
    N times too, so that all weigh the same.

    Args:
        table: denoised pairs with `smoothing`.

    Returns:
        N rows for each, without `smoothing`; `denoise_copy` counts them from 0.

    Raises:
        DataError: there is no smoothing, or its ratio needs more than 20 copies.
    """
    alphas = numbers(table, columns.SMOOTHING, "expand what `denoise --action smooth` made")
    copies = copies_of(sorted(set(alphas.tolist())))
    copy = np.tile(np.arange(copies), len(table))
    swapped = copy >= np.repeat(copies - np.rint(alphas * copies), copies)
    rows = table.remove_columns([columns.SMOOTHING]).select(
        np.repeat(np.arange(len(table)), copies)
    )
    flipped = np.array(rows[columns.FLIPPED]) != swapped
    added = {columns.FLIPPED: flipped.tolist(), columns.COPY: copy.tolist()}
    if columns.MARGIN in rows.column_names:
        sign = np.where(swapped, -1.0, 1.0)
        added[columns.MARGIN] = (np.array(rows[columns.MARGIN]) * sign).tolist()
    return with_columns(resign(rows, swapped), added)


def copies_of(alphas: list[float]) -> int:
    """The least number of copies of which each alpha is a whole share.

    Raises:
        DataError: it is above 20.
    """
    shares = [Fraction(alpha).limit_denominator(_MAX_COPIES) for alpha in alphas]
    copies = lcm(*(share.denominator for share in shares))
    exact = all(abs(float(s) - a) < 1e-9 for s, a in zip(shares, alphas, strict=True))
    if copies > _MAX_COPIES or not exact:
        raise DataError(
            f"smoothing {', '.join(f'{a:g}' for a in alphas if a)} is no share of at most "
            f"{_MAX_COPIES} copies: choose .1, .2, .25 or the like"
        )
    return copies
