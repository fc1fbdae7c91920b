"""The gold reward model: labels pairs for the proxy, and watches policies that never ask it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assay.models.loading import load
from assay.models.options import LoadOptions
from assay.schemas.text import Prompt

GOLD = "assay-minilm"
_AT_ONCE = 64


class Gold:
    """The embedded model, in this process."""

    def __init__(self) -> None:
        self._model = load(GOLD, LoadOptions(device="cpu"))

    def scores(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """Scores of each prompt's completions, in a group's order; nan for an empty one."""
        texts = [
            (prompt, text) for prompt, group in zip(prompts, groups, strict=True) for text in group
        ]
        found = np.full(len(texts), np.nan)
        rows = [row for row, (_, text) in enumerate(texts) if text]
        rows.sort(key=lambda row: len(texts[row][1]))
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            encoded = [self._model.encode(*texts[row]) for row in part]
            found[part] = self._model.score(encoded).mean(axis=1)
        ends = np.cumsum([len(group) for group in groups])
        return np.split(found, ends[:-1])
