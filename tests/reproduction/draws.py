"""The bootstrap over roots that all numbers of a report share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_trainer.evaluate.statistics import Estimate, Roots

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Roots, and how often each is drawn in each resample.

    Attributes:
        place: number of each root.
        roots: makes the intervals.
    """

    place: dict[str, int]
    roots: Roots

    @classmethod
    def of(cls, roots: Iterable[str]) -> Draws:
        names = sorted(set(roots))
        return cls({name: place for place, name in enumerate(names)}, Roots.of(names))

    @property
    def counts(self) -> Array:
        """Shape [resamples, roots]."""
        return self.roots.counts.astype(float)

    def places(self, roots: Iterable[str]) -> NDArray[np.intp]:
        return np.array([self.place[root] for root in roots])

    def interval(self, value: float, samples: Array) -> Estimate:
        """A number with the 95 % range of what it is in the resamples."""
        return self.roots.interval(value, samples)
