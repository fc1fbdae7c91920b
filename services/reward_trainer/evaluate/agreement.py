"""How far raters - label columns and models - agree beyond chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from assay.errors import DataError
from reward_trainer.evaluate.statistics import Array, Estimate, Roots, divided

_VALUES = {1: 1.0, 0: 0.0, -1: np.nan, "chosen": 1.0, "rejected": 0.0, None: np.nan}


class Rater(BaseModel):
    """One label column or model."""

    model_config = ConfigDict(frozen=True)

    name: str
    pairs: int = Field(description="Pairs that it has a label for.")
    says_chosen: Estimate = Field(description="Share in which it sides with the data's `chosen`.")


class Agreement(BaseModel):
    """Two raters on the pairs that both have labelled."""

    model_config = ConfigDict(frozen=True)

    first: str
    second: str
    pairs: int
    agreement: Estimate | None = Field(description="None = no pair in common.")
    chance: float | None = Field(description="Agreement that the two label shares alone give.")
    kappa: Estimate | None = Field(
        description="(agreement - chance) / (1 - chance); None = not defined: no pair in common, "
        "or one of the two gives one answer only."
    )


def read_labels(column: str, values: Iterable[Any]) -> Array:
    """A column's labels as numbers: 1 = `chosen` is better, 0 = `rejected` is, NaN = no label.

    Args:
        column: its name, for errors.
        values: 1, 0, true, false, "chosen", "rejected"; -1, null and NaN stand for no label.

    Raises:
        DataError: another value, no label at all, or one class only.
    """
    labels = np.array([_label(column, row, value) for row, value in enumerate(values, start=1)])
    given = set(labels[~np.isnan(labels)])
    if not given:
        raise DataError(f"column {column!r} holds no label")
    if len(given) == 1:
        side = "chosen" if given == {1.0} else "rejected"
        raise DataError(
            f"column {column!r} has one class only: every label says {side}, so there is no "
            "agreement beyond chance to measure"
        )
    return labels


def _label(column: str, row: int, value: Any) -> float:
    if isinstance(value, float) and np.isnan(value):
        return float("nan")
    if isinstance(value, bool | int | float | str | None) and value in _VALUES:
        return _VALUES[value]
    raise DataError(
        f"row {row}: column {column!r} holds {str(value)[:40]!r}; a label is 1 or 0, true or "
        'false, "chosen" or "rejected", and -1 or null for none'
    )


def choices(differences: Array) -> Array:
    """A model's labels: 1 where it scores `chosen` higher, 0 where lower, NaN for equal scores."""
    return np.where(differences == 0, np.nan, (differences > 0).astype(float))


def measure_raters(
    raters: Mapping[str, Array], roots: Sequence[str]
) -> tuple[list[Rater], list[Agreement]]:
    """Each rater, and each two of them.

    Args:
        raters: name to labels of shape [pairs]; see `read_labels`.
        roots: each pair's conversation root.
    """
    clusters = Roots.of(roots)
    rows = [
        Rater(name=name, pairs=int(given.sum()), says_chosen=clusters.share(labels, given))
        for name, labels in raters.items()
        if (given := ~np.isnan(labels)).any()
    ]
    both = [_agreement(a, b, raters[a], raters[b], clusters) for a, b in combinations(raters, 2)]
    return rows, both


def _agreement(first: str, second: str, a: Array, b: Array, roots: Roots) -> Agreement:
    common = ~np.isnan(a) & ~np.isnan(b)
    if not common.any():
        return Agreement(
            first=first, second=second, pairs=0, agreement=None, chance=None, kappa=None
        )
    cells = [common & (a == i) & (b == j) for i in (1, 0) for j in (1, 0)]
    chance = _chance(np.array([[float(cell.sum())] for cell in cells]))
    kappa = _kappa(np.array([[float(cell.sum())] for cell in cells]))
    samples = _kappa(np.array([roots.totals(cell.astype(float)) for cell in cells]))
    varied = all(len(np.unique(labels[common])) == 2 for labels in (a, b))
    return Agreement(
        first=first,
        second=second,
        pairs=int(common.sum()),
        agreement=roots.share((a == b).astype(float), common),
        chance=float(chance[0]),
        kappa=roots.interval(float(kappa[0]), samples, common) if varied else None,
    )


def _chance(cells: Array) -> Array:
    """Agreement of independent raters with these shares.

    Args:
        cells: counts of (1, 1), (1, 0), (0, 1), (0, 0), shape [4, resamples].
    """
    share = cells / np.maximum(cells.sum(axis=0), 1)
    a, b = share[0] + share[1], share[0] + share[2]
    return np.asarray(a * b + (1 - a) * (1 - b))


def _kappa(cells: Array) -> Array:
    """Cohen's kappa of each column of `cells`, NaN where chance alone gives full agreement."""
    agreed = (cells[0] + cells[3]) / np.maximum(cells.sum(axis=0), 1)
    chance = _chance(cells)
    return divided(agreed - chance, 1 - chance)
