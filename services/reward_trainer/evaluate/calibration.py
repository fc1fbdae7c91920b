"""Whether a model's probabilities hold: how often the side that it prefers is the chosen one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from assay.rewards.strength import sigmoid
from reward_trainer.evaluate.statistics import Array, Estimate, Roots, right


class CalibrationBin(BaseModel):
    """Pairs whose preferred side has a probability in one range."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float = Field(description="Not itself in the range, except in the last one.")
    pairs: int
    probability: float | None = Field(description="Mean of the model; None = no pairs.")
    frequency: float | None = Field(description="Share in which it is right; None = no pairs.")


class FoldedCalibration(BaseModel):
    """How well the probabilities of one model hold; see `folded_calibration`."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    temperature: float = Field(description="T of sigmoid(difference / T); 1 = not calibrated.")
    error: float = Field(description="Mean over pairs of |probability - frequency| of their bin.")
    overconfidence: Estimate = Field(description="Mean probability minus share right.")
    bins: list[CalibrationBin]


def preference(differences: Array, temperature: float) -> Array:
    """Probability that `chosen` is the better one: mean over members of sigmoid(d_m / T).

    Args:
        differences: score(chosen) - score(rejected) of each member, shape [pairs, members].
        temperature: T, above 0.

    Returns:
        Shape [pairs].
    """
    return np.asarray(sigmoid(differences / temperature).mean(axis=1))


def folded_calibration(
    probability: Array, roots: Sequence[str], temperature: float, bins: int = 10
) -> FoldedCalibration:
    """Compare the probability of the side that the model prefers with how often it is right.

    Every label says `chosen`, so probabilities are folded at one half: `q = max(p, 1 - p)` is that
    of the preferred side, which is right where `p > 1/2` and half right where `p = 1/2`. Bins are
    equally wide on [1/2, 1]:

        error = sum_b (n_b / n) |mean_b q - mean_b right|

    Args:
        probability: p that `chosen` is better, shape [pairs]; see `preference`.
        roots: each pair's conversation root.
        temperature: what p was made with, for the record.
        bins: 1 or more.
    """
    correct = right(probability - 0.5)
    folded = np.maximum(probability, 1 - probability)
    edges = np.linspace(0.5, 1.0, bins + 1)
    places = np.clip(np.searchsorted(edges, folded, side="right") - 1, 0, bins - 1)
    rows = [
        _bin(low, high, folded[places == place], correct[places == place])
        for place, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    ]
    return FoldedCalibration(
        pairs=len(folded),
        temperature=temperature,
        error=sum(_gap(row) * row.pairs for row in rows) / len(folded),
        overconfidence=Roots.of(roots).mean(folded - correct),
        bins=rows,
    )


def _bin(low: float, high: float, folded: Array, correct: Array) -> CalibrationBin:
    return CalibrationBin(
        low=low,
        high=high,
        pairs=len(folded),
        probability=float(folded.mean()) if len(folded) else None,
        frequency=float(correct.mean()) if len(folded) else None,
    )


def _gap(row: CalibrationBin) -> float:
    if row.probability is None or row.frequency is None:
        return 0.0
    return abs(row.probability - row.frequency)
