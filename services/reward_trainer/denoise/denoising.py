"""Applying a policy to a table of measured pairs, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np

from assay.errors import DataError
from reward_trainer.denoise import columns
from reward_trainer.denoise.policy import Mask, Policy
from reward_trainer.preferences.columns import with_columns
from reward_trainer.preferences.formats import plain
from reward_trainer.strength.columns import DIFFERENCES, MEAN, VOTES, read_strength

_OWN = (columns.ACTION, columns.FLIPPED, columns.POLICY, columns.MODEL, columns.ROW, columns.ROWS)


class Denoised(NamedTuple):
    """A table's rows after a policy; `dropped` holds those that are not to be trained on."""

    kept: datasets.Dataset
    dropped: datasets.Dataset


def denoise(table: datasets.Dataset, policy: Policy) -> Denoised:
    """Apply a policy to the original labels: an earlier policy is taken back first.

    Hence the same policy twice is the same as once. On flipped pairs, the strength columns are
    re-signed, and so is the margin: it is |mean| there.

    Args:
        table: pairs with strength columns; denoised ones may lack the rows that were dropped.
        policy: what to do.

    Raises:
        DataError: strength columns are missing or wrong, columns of the table's own are in the
            way, or nothing would be left.
    """
    rows = restore(table) if is_denoised(table) else _numbered(table)
    strength = read_strength(rows)
    _check_free(rows, policy)
    suspect = policy.suspects(strength)
    flipped = suspect & (policy.choice == "flip")
    rows = resign(rows, flipped)
    added: dict[str, Sequence[Any]] = {
        columns.ACTION: [_action(policy, bool(chosen)) for chosen in suspect],
        columns.FLIPPED: flipped.tolist(),
        columns.POLICY: [str(policy)] * len(rows),
        columns.MODEL: [strength.model] * len(rows),
    }
    if policy.has_margin:
        added[columns.MARGIN] = np.where(flipped, -strength.mean, strength.mean).tolist()
    if policy.choice == "smooth":
        added[columns.SMOOTHING] = np.where(suspect, policy.smoothing, 0.0).tolist()
    return _divide(with_columns(rows, added), suspect & (policy.choice == "drop"))


def undo(table: datasets.Dataset) -> datasets.Dataset:
    """The table as it was before any policy, in its order.

    Args:
        table: all rows of a denoised table, the dropped ones too.

    Raises:
        DataError: it is not denoised, or rows of it are missing or there twice.
    """
    if not is_denoised(table):
        raise DataError(f"nothing to undo: the table has no column {columns.ACTION!r}")
    rows = restore(table)
    numbers, expected = list(rows[columns.ROW]), rows[columns.ROWS][0]
    if len(set(numbers)) < len(numbers):
        raise DataError("rows are there twice: undo each denoised file alone")
    if len(numbers) != expected:
        raise DataError(
            f"{expected - len(numbers)} of {expected} rows are missing: the rows that the policy "
            "dropped are in the file `.dropped` beside the denoised one"
        )
    return rows.remove_columns([columns.ROW, columns.ROWS])


def is_denoised(table: datasets.Dataset) -> bool:
    """Whether a policy was applied to the table."""
    return columns.ACTION in table.column_names


def restore(table: datasets.Dataset) -> datasets.Dataset:
    """The rows with their original labels and in their order; of the policy's columns, only the
    row numbers stay.

    Raises:
        DataError: the table was denoised by other means, or by several policies.
    """
    missing = [name for name in _OWN if name not in table.column_names]
    if missing:
        raise DataError(f"the table has {columns.ACTION!r} and no column {missing[0]!r}")
    read_strength(table)
    if columns.COPY in table.column_names:
        table = table.select(np.flatnonzero(np.array(table[columns.COPY]) == 0))
    policies = sorted(set(map(str, table[columns.POLICY])))
    if len(policies) != 1:
        raise DataError(f"the table was denoised by {len(policies)} policies: undo each part alone")
    table = resign(table, np.array(table[columns.FLIPPED], dtype=bool))
    written = {columns.ACTION, columns.FLIPPED, columns.POLICY, columns.MODEL, columns.COPY}
    action = policies[0].partition(",")[0].split()[0]
    written |= {columns.MARGIN} if action.endswith("margin") else set()
    written |= {columns.SMOOTHING} if action.startswith("smooth") else set()
    table = table.remove_columns([name for name in table.column_names if name in written])
    return table.select(np.argsort(table[columns.ROW], kind="stable"))


def resign(table: datasets.Dataset, swapped: Mask) -> datasets.Dataset:
    """The rows with chosen and rejected swapped where `swapped`, and their strength re-signed.

    Args:
        table: pairs with strength columns.
        swapped: shape [rows].
    """
    chosen, rejected = ([plain(text) for text in table[side]] for side in ("chosen", "rejected"))
    sides = zip(chosen, rejected, swapped, strict=True)
    better = [(r, c) if swap else (c, r) for c, r, swap in sides]
    sign = np.where(swapped, -1.0, 1.0)
    differences = np.array(table[DIFFERENCES]) * sign[:, None]
    return with_columns(
        table,
        {
            "chosen": [pair[0] for pair in better],
            "rejected": [pair[1] for pair in better],
            MEAN: (np.array(table[MEAN]) * sign).tolist(),
            VOTES: (differences > 0).sum(axis=1).tolist(),
            DIFFERENCES: differences.tolist(),
        },
    )


def _numbered(table: datasets.Dataset) -> datasets.Dataset:
    taken = [name for name in (*_OWN, columns.COPY) if name in table.column_names]
    if taken:
        raise DataError(f"the table has a column {taken[0]!r} of its own: rename it")
    size = len(table)
    return with_columns(table, {columns.ROW: list(range(size)), columns.ROWS: [size] * size})


def _check_free(table: datasets.Dataset, policy: Policy) -> None:
    """Refuse to overwrite a column of the user's, or to leave its sign wrong."""
    if columns.MARGIN in table.column_names and (policy.has_margin or policy.choice == "flip"):
        raise DataError(
            f"the table has a column {columns.MARGIN!r} of its own, which belongs to the labels as "
            "they are: remove or rename it"
        )
    if columns.SMOOTHING in table.column_names and policy.choice == "smooth":
        raise DataError(f"the table has a column {columns.SMOOTHING!r} of its own: rename it")


def _action(policy: Policy, suspect: bool) -> str:
    if suspect:
        return policy.action
    return "margin" if policy.has_margin else "keep"


def _divide(table: datasets.Dataset, dropped: Mask) -> Denoised:
    if dropped.all():
        raise DataError("the policy drops every pair: lower --below")
    return Denoised(table.select(np.flatnonzero(~dropped)), table.select(np.flatnonzero(dropped)))
