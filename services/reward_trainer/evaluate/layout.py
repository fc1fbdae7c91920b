"""The distinct texts of some examples, and where each row's completions are among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from assay.models.inputs import as_completion_text
from reward_trainer.evaluate.examples import Example
from reward_trainer.evaluate.scoring import Text
from reward_trainer.evaluate.statistics import Array


@dataclass(frozen=True, eq=False)
class Layout:
    """Texts that occur in several rows are scored once.

    Attributes:
        texts: the distinct ones.
        chosen: per row, the places of its better completions in `texts`.
        rejected: likewise of its worse ones.
    """

    texts: list[Text]
    chosen: list[list[int]]
    rejected: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[Example]) -> Layout:
        """Lay out the rows' texts."""
        places: dict[str, int] = {}
        layout = cls([], [], [])
        for row in rows:
            found = []
            for text in row.texts():
                place = places.setdefault(text.key, len(places))
                if place == len(layout.texts):
                    layout.texts.append(text)
                found.append(place)
            layout.chosen.append(found[: len(row.chosen)])
            layout.rejected.append(found[len(row.chosen) :])
        return layout

    @cached_property
    def lengths(self) -> Array:
        """Characters of each distinct text's completion."""
        return np.array([float(len(as_completion_text(t.completion))) for t in self.texts])

    def differences(self, values: Array) -> Array:
        """Chosen minus rejected of rows with one of each; shape [rows, ...] for [texts, ...]."""
        chosen, rejected = self._first(self.chosen), self._first(self.rejected)
        return np.asarray(values[chosen] - values[rejected])

    def matrix(self, values: Array) -> tuple[Array, Array]:
        """Values of equally many chosen and rejected completions, each [rows, completions]."""
        return values[np.array(self.chosen)], values[np.array(self.rejected)]

    def _first(self, places: Sequence[Sequence[int]]) -> NDArray[np.intp]:
        return np.array([row[0] for row in places])
