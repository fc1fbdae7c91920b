"""Running normalisation and clipping of rewards, one set of moments per reward model version."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of all values so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, values: Tensor) -> Moments:
        """With more values, shape [B]: equal to the moments of all of them at once."""
        values = values.double()
        n, mean = len(values), values.mean().item()
        squares = ((values - mean) ** 2).sum().item()
        total = self.count + n
        step = mean - self.mean
        return Moments(
            total,
            self.mean + step * n / total,
            self.squares + squares + step**2 * self.count * n / total,
        )

    @property
    def std(self) -> float:
        """Population standard deviation, 0 for fewer than two values."""
        return math.sqrt(self.squares / self.count) if self.count > 1 else 0.0


class RewardNormaliser:
    """Brings rewards to mean 0, std 1 and a limited size (arXiv 2307.04964, Eq. 18).

        r~ = clip((r - mean) / std, -delta, delta)

    The moments run over everything that the same version of the reward model has given, the present
    batch included. Another version has another scale: it starts with moments of its own, and an
    earlier one that serves again finds its own.

    Args:
        clip: delta, above 0; None = no limit.
        moments: of each version so far; changed in place.
    """

    def __init__(self, clip: float | None, moments: dict[str, Moments]) -> None:
        self._clip, self._moments = clip, moments

    def __call__(self, rewards: Tensor, model_version: str) -> Tensor:
        """Take a batch into the moments of its version, and normalise it.

        Args:
            rewards: shape [B], B > 0, finite.
            model_version: who gave them.

        Returns:
            Shape [B]; all 0 while nothing but equal rewards has been seen.
        """
        moments = self._moments.get(model_version, Moments()).joined(rewards)
        self._moments[model_version] = moments
        if moments.std < _SMALLEST_STD:
            return torch.zeros_like(rewards)
        normal = (rewards - moments.mean) / moments.std
        return normal if self._clip is None else normal.clamp(-self._clip, self._clip)
