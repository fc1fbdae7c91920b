"""What preference strength does to the train part: flips, margins and soft targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.errors import DataError
from assay.objectives import adaptive_margin, from_strength, smooth_all, smooth_negative
from reward_trainer.denoise import columns as denoised
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Objective, Recipe
from reward_trainer.preferences.columns import numbers

_STRENGTH = "strength_mean"


def target_columns(table: datasets.Dataset, recipe: Recipe, data: str) -> dict[str, list[Any]]:
    """What each row has for the recipe's loss: `weight`, `strength`, `margin`, `smoothing`.

    A table that was denoised is taken as it is, and `flipped` says where its labels were turned.

    Args:
        table: preference pairs.
        recipe: says what is needed.
        data: where the table is, for messages.

    Raises:
        DataError: a column or a value is missing, or out of range; or the recipe would denoise a
            second time.
    """
    is_denoised = denoised.ACTION in table.column_names
    if is_denoised and recipe.objective.denoises:
        raise DataError(
            f"{data} is denoised, and the recipe {recipe.name} would do so again: train on it with "
            "--recipe bt, or on the table that it was made from"
        )
    wanted = _wanted(recipe.objective, set(table.column_names), is_denoised)
    values = {
        name: numbers(table, column, _remedy(column, recipe, data))
        for name, column in wanted.items()
    }
    _check(values)
    columns: dict[str, list[Any]] = {name: column.tolist() for name, column in values.items()}
    if denoised.FLIPPED in table.column_names:
        columns["flipped"] = list(table[denoised.FLIPPED])
    return columns


def _wanted(objective: Objective, found: set[str], is_denoised: bool) -> dict[str, str]:
    wanted = {"weight": "weight"} if "weight" in found else {}
    if is_denoised:
        own = (denoised.MARGIN, denoised.SMOOTHING)
        return wanted | {name: name for name in own if name in found}
    has_margin = "margin" in found and not objective.flip
    if objective.margin != "none" and has_margin:
        wanted["margin"] = "margin"
    if objective.needs_strength or (objective.margin != "none" and not has_margin):
        wanted["strength"] = _STRENGTH
    return wanted


def _remedy(column: str, recipe: Recipe, data: str) -> str:
    if column != _STRENGTH:
        return "every row needs one, or the table does without the column"
    return (
        f"the recipe {recipe.name} needs it: run `assay strength {data} --cross-fit 5 --out "
        "strength.jsonl` first, then fit with --data strength.jsonl"
    )


def _check(values: dict[str, NDArray[np.float64]]) -> None:
    ranges = {"weight": (0.0, np.inf), "smoothing": (0.0, 1.0)}
    for name, (low, high) in ranges.items():
        wrong = (values[name] < low) | (values[name] > high) if name in values else np.array([])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"row {row + 1}: column {name!r} is {values[name][row]}, not between {low} and "
                f"{high}"
            )


def with_targets(pairs: Sequence[Pair], objective: Objective) -> list[Pair]:
    """The train part with flips, margins and smoothing; other parts keep their labels.

    A flipped pair's strength changes sign with its label, and its margin with that
    (arXiv 2401.06080, section 2.5; the sign follows from its Figure 8).
    """
    measured = torch.tensor([pair.strength or 0.0 for pair in pairs], dtype=torch.float64)
    flips = flipped(measured, objective.flip)
    strengths = torch.where(flips, -measured, measured)
    margins = adaptive_margin(measured, flips).tolist()
    smoothing = _smoothing(strengths, objective)
    made = []
    for index, pair in enumerate(pairs):
        pair = pair.swapped() if flips[index] else pair
        if objective.margin == "strength" and pair.margin is None:
            pair = replace(pair, margin=margins[index])
        if smoothing is not None:
            pair = replace(pair, smoothing=smoothing[index].item())
        made.append(pair)
    return made


def flipped(strengths: Tensor, share: float) -> Tensor:
    """Which labels flip: those of negative strength among the weakest `share`, shape [pairs]."""
    ranks = strengths.argsort(stable=True).argsort()
    return (ranks < share * len(strengths)) & (strengths < 0)


def _smoothing(strengths: Tensor, objective: Objective) -> Tensor | None:
    alpha = objective.smoothing_alpha
    schemes: dict[str, Callable[[], Tensor | None]] = {
        "none": lambda: None,
        "all": lambda: smooth_all(strengths, alpha),
        "negative": lambda: smooth_negative(strengths, alpha),
        "strength": lambda: from_strength(strengths, objective.temperature),
    }
    return schemes[objective.smoothing]()
