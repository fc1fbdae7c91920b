"""What preference strength does to the train part: flips, margins and soft targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import datasets
import numpy as np
from numpy.typing import NDArray

from assay.errors import DataError
from assay.rewards.strength import sigmoid
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Objective, Recipe
from reward_trainer.preferences.columns import numbers

Array = NDArray[np.float64]
_STRENGTH, _DENOISED = "strength_mean", "denoise_action"


def target_columns(table: datasets.Dataset, recipe: Recipe, data: str) -> dict[str, list[float]]:
    """The numbers of each row that the recipe's loss needs, and `weight` if there is one.

    A table that was denoised is taken as it is: its labels, and its margins and smoothing.

    Args:
        table: preference pairs.
        recipe: says what is needed.
        data: where the table is, for messages.

    Raises:
        DataError: a column or a value is missing, or out of range; or the recipe would denoise a
            second time.
    """
    objective, found = recipe.objective, set(table.column_names)
    wanted = {"weight": "weight"} if "weight" in found else {}
    if _DENOISED in found:
        if objective.flip or objective.margin != "none" or objective.smoothing != "none":
            raise DataError(
                f"{data} is denoised, and the recipe {recipe.name} would do so again: train on it "
                "with --recipe bt, or on the table that it was made from"
            )
        wanted |= {name: name for name in ("margin", "smoothing") if name in found}
    elif objective.margin != "none" and "margin" in found and not objective.flip:
        wanted["margin"] = "margin"
    if objective.needs_strength or (objective.margin != "none" and "margin" not in wanted):
        wanted["strength"] = _STRENGTH
    remedy = {
        _STRENGTH: f"the recipe {recipe.name} needs it: run "
        f"`assay strength {data} --cross-fit 5 --out strength.jsonl` first, and fit strength.jsonl",
    }
    values = {
        name: numbers(table, column, remedy.get(column, "every row needs one"))
        for name, column in wanted.items()
    }
    _check(values)
    return {name: column.tolist() for name, column in values.items()}


def _check(values: dict[str, Array]) -> None:
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
    strengths = np.array([pair.strength or 0.0 for pair in pairs])
    flips = flipped(strengths, objective.flip)
    strengths = np.where(flips, -strengths, strengths)
    smoothing = _smoothing(strengths, objective)
    made = []
    for index, pair in enumerate(pairs):
        if flips[index]:
            pair = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
        if objective.margin == "strength" and pair.margin is None:
            pair = replace(pair, margin=float(strengths[index]))
        if smoothing is not None:
            pair = replace(pair, smoothing=float(smoothing[index]))
        made.append(pair)
    return made


def flipped(strengths: Array, share: float) -> NDArray[np.bool_]:
    """Which labels flip: those of negative strength among the weakest `share`, shape [pairs]."""
    ranks = np.argsort(np.argsort(strengths, kind="stable"), kind="stable")
    flips: NDArray[np.bool_] = (ranks < share * len(strengths)) & (strengths < 0)
    return flips


def _smoothing(strengths: Array, objective: Objective) -> Array | None:
    if objective.smoothing == "none":
        return None
    if objective.smoothing == "all":
        return np.full(len(strengths), objective.smoothing_alpha)
    if objective.smoothing == "negative":
        return np.where(strengths < 0, objective.smoothing_alpha, 0.0)
    return 1.0 - sigmoid(objective.temperature * strengths)
