"""How far a model's scores go by the length of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.evaluate.statistics import Array, Estimate, Roots, right

_BINS = 5


class LengthBin(BaseModel):
    """Texts of like length."""

    model_config = ConfigDict(frozen=True)

    texts: int
    shortest: int = Field(description="Characters.")
    longest: int = Field(description="Characters.")
    mean: float = Field(description="Mean score.")
    std: float = Field(description="Population standard deviation of the scores.")


class ScoreByLength(BaseModel):
    """Scores against characters of the completions."""

    model_config = ConfigDict(frozen=True)

    texts: int
    correlation: float | None = Field(
        description="Spearman, over distinct texts of all prompts; None = one length or one score."
    )
    within_pairs: float | None = Field(
        description="Spearman, over differences within pairs, each pair in both orders: free of "
        "what the prompt adds to both scores."
    )
    prefers_longer: Estimate | None = Field(
        description="Share of pairs, of those of unequal length, in which the longer text scores "
        "higher; equal scores count one half. None = no such pair."
    )
    longer_wins: Estimate | None = Field(description="Share in which the longer text is chosen.")
    bins: list[LengthBin] = Field(description="Distinct texts, shortest to longest, in fifths.")


def score_by_length(
    scores: Array, lengths: Array, differences: Array, extra_length: Array, roots: Sequence[str]
) -> ScoreByLength:
    """Measure how scores go with length, over texts and within pairs.

    Args:
        scores: of the distinct texts, shape [texts].
        lengths: their characters, shape [texts].
        differences: score(chosen) - score(rejected), shape [pairs].
        extra_length: length(chosen) - length(rejected), shape [pairs].
        roots: each pair's conversation root.
    """
    clusters, unequal = Roots.of(roots), extra_length != 0
    longer = right(differences * np.sign(extra_length))
    return ScoreByLength(
        texts=len(scores),
        correlation=spearman(scores, lengths),
        within_pairs=spearman(
            np.concatenate([differences, -differences]),
            np.concatenate([extra_length, -extra_length]),
        ),
        prefers_longer=clusters.share(longer, unequal) if unequal.any() else None,
        longer_wins=clusters.share(right(extra_length), unequal) if unequal.any() else None,
        bins=_bins(scores, lengths),
    )


def spearman(first: Array, second: Array) -> float | None:
    """Pearson correlation of the ranks, equal values sharing the mean rank; None if one is flat."""
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else None


def ranks(values: Array) -> Array:
    """Ranks from 1 up; equal values share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[group])


def _bins(scores: Array, lengths: Array) -> list[LengthBin]:
    order = np.argsort(lengths, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    return [
        LengthBin(
            texts=len(part),
            shortest=int(lengths[part].min()),
            longest=int(lengths[part].max()),
            mean=float(scores[part].mean()),
            std=float(scores[part].std()),
        )
        for part in parts
    ]
