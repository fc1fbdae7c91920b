"""How well a model ranks the pairs of each subset, beside what length alone would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from reward_trainer.evaluate.statistics import Array, Estimate, Mask, Roots, right

ALL = "all"


class Accuracy(BaseModel):
    """One subset's pairs, ranked by one model."""

    model_config = ConfigDict(frozen=True)

    subset: str
    pairs: int
    roots: int = Field(description="Conversation roots, which the intervals resample.")
    accuracy: Estimate = Field(description="Share ranked right; equal scores count one half.")
    ties: int = Field(description="Pairs whose two scores are equal.")
    length_rule: Estimate = Field(description="Accuracy of the better of two rules: see `prefers`.")
    prefers: Literal["longer", "shorter"] = Field(description="The text that the rule prefers.")
    gain: Estimate = Field(description="Accuracy minus the length rule's, paired.")
    longer_loses: Estimate | None = Field(
        description="Accuracy where the longer text is the worse one; None = no such pair."
    )
    longer_loses_pairs: int


class Comparison(BaseModel):
    """Two models on the same pairs of one subset."""

    model_config = ConfigDict(frozen=True)

    subset: str
    pairs: int
    roots: int
    first: float = Field(description="Accuracy of the first model.")
    second: float = Field(description="Accuracy of the second model.")
    difference: Estimate = Field(description="First minus second, paired.")
    only_first: int = Field(description="Pairs on which the first does better.")
    only_second: int = Field(description="Pairs on which the second does better.")


def accuracy_by_subset(
    subsets: Sequence[str], roots: Sequence[str], extra_length: Array, differences: Array
) -> list[Accuracy]:
    """Measure each subset, and all pairs together if there are several.

    Args:
        subsets: each pair's subset; rows come in the order of their first pair.
        roots: each pair's conversation root.
        extra_length: length(chosen) - length(rejected) in characters, shape [pairs].
        differences: score(chosen) - score(rejected), shape [pairs].
    """
    return [
        _accuracy(name, _some(roots, rows), extra_length[rows], differences[rows])
        for name, rows in rows_of_subsets(subsets)
    ]


def compare_by_subset(
    subsets: Sequence[str], roots: Sequence[str], first: Array, second: Array
) -> list[Comparison]:
    """Compare two models pair by pair.

    Args:
        subsets: see `accuracy_by_subset`.
        roots: likewise.
        first: what the first model earns on each pair, 0 to 1 (see `right`), shape [pairs].
        second: what the second one earns.
    """
    return [
        _compare(name, _some(roots, rows), first[rows], second[rows])
        for name, rows in rows_of_subsets(subsets)
    ]


def rows_of_subsets(subsets: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    """Each subset with the rows that it has, then all rows if there are several subsets."""
    names = list(dict.fromkeys(subsets))
    labels = np.asarray(subsets)
    for name in names:
        yield name, labels == name
    if len(names) > 1:
        yield ALL, np.ones(len(labels), dtype=bool)


def _some(roots: Sequence[str], rows: Mask) -> list[str]:
    return [root for root, kept in zip(roots, rows, strict=True) if kept]


def _accuracy(
    subset: str, root_names: Sequence[str], extra_length: Array, differences: Array
) -> Accuracy:
    roots = Roots.of(root_names)
    correct, longer, loses = right(differences), right(extra_length), extra_length < 0
    prefers: Literal["longer", "shorter"] = "longer" if longer.mean() >= 0.5 else "shorter"
    rule = longer if prefers == "longer" else 1 - longer
    return Accuracy(
        subset=subset,
        pairs=len(correct),
        roots=roots.number,
        accuracy=roots.share(correct),
        ties=int((differences == 0).sum()),
        length_rule=roots.share(rule),
        prefers=prefers,
        gain=roots.mean(correct - rule),
        longer_loses=roots.share(correct, loses) if loses.any() else None,
        longer_loses_pairs=int(loses.sum()),
    )


def _compare(subset: str, root_names: Sequence[str], first: Array, second: Array) -> Comparison:
    roots = Roots.of(root_names)
    return Comparison(
        subset=subset,
        pairs=len(first),
        roots=roots.number,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=roots.mean(first - second),
        only_first=int((first > second).sum()),
        only_second=int((second > first).sum()),
    )
