"""A small ensemble that really learns: Bradley-Terry on counts of letters, one start a member."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

from assay.models.inputs import as_completion_text, as_text
from assay.models.scorer import EncodedInput, Scorer, Truncate
from assay.schemas.models import ModelCard, ModelInfo
from assay.schemas.text import Completion, Prompt

_LETTERS = 128


class LinearEnsemble(Scorer):
    """Member m scores the sum of its weights of the letters of a completion."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights
        info = ModelInfo(
            alias=[],
            replicas=0,
            format="concat",
            pool="last",
            members=len(weights),
            max_tokens=512,
            digest="linear",
            lineage=[],
            metrics={},
            recipe={},
            calibration=None,
        )
        self.card = ModelCard(id="linear@1", assay=info)

    def encode(
        self,
        prompt: Prompt,
        completion: Completion,
        *,
        finished: bool = True,
        raw: bool = False,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        as_text(prompt)
        return EncodedInput(tuple(as_completion_text(completion).encode("ascii")))

    def format_used(self, *, raw: bool) -> str:
        return "concat"

    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        return np.array([_counts(text.ids) @ self.weights.T for text in batch])


def train_linear(table: datasets.Dataset, folder: Path, members: int = 3) -> LinearEnsemble:
    """Gradient steps on the Bradley-Terry loss from a random start of each member."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = zip(table["chosen"], table["rejected"], strict=True)
    gaps = np.array([_counts(c.encode()) - _counts(r.encode()) for c, r in sides])
    weights = np.random.default_rng(0).normal(scale=0.3, size=(members, _LETTERS))
    for _ in range(200):
        slopes = 1 / (1 + np.exp(weights @ gaps.T))
        weights += 0.5 * slopes @ gaps / len(gaps)
    return LinearEnsemble(weights)


def _counts(ids: Sequence[int]) -> NDArray[np.float64]:
    return np.bincount(np.array(list(ids)), minlength=_LETTERS).astype(float)
