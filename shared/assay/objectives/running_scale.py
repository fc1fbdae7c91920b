"""Contrastive rewards brought back to the size of the scores they were made from."""

from __future__ import annotations

from torch import Tensor

from assay.errors import InvalidInputError
from assay.objectives.checks import check_pairs


class RunningScale:
    """Dynamic scaling of contrastive rewards, one scale per model version.

        out = r * clip(ema|score| / ema|r|, smallest, largest)

    A reconstruction of arXiv 2403.07708, whose formula was not available. Absolute values, because
    the signed mean of contrastive rewards starts at 0; a ratio, so that both averages may start at
    0 too. It belongs to the trainer that calls it, and is saved by pickle.

    Args:
        decay: of the running means, in [0, 1); 0 = the present batch alone.
        smallest: lower limit of the factor, > 0.
        largest: upper limit of the factor, at least `smallest`.

    Raises:
        InvalidInputError: a number is out of range.
    """

    def __init__(
        self, *, decay: float = 0.99, smallest: float = 0.1, largest: float = 10.0
    ) -> None:
        if not 0 <= decay < 1:
            raise InvalidInputError(f"decay must be in [0, 1), not {decay}")
        if not 0 < smallest <= largest:
            raise InvalidInputError(
                f"limits need 0 < smallest <= largest, not {smallest} and {largest}"
            )
        self._decay = decay
        self._limits = smallest, largest
        self._means: dict[str, tuple[float, float]] = {}

    def __call__(self, rewards: Tensor, scores: Tensor, model_version: str) -> Tensor:
        """Take one batch into the running means of a version and scale it.

        Args:
            rewards: contrastive rewards, shape [B], B > 0, finite.
            scores: scores of the same completions before the baseline was taken off, shape [B].
            model_version: the version that gave both.

        Returns:
            Scaled rewards, shape [B].

        Raises:
            ValueError: shapes differ, are not [B] with B > 0, or are not floating point.
            InvalidInputError: a value is not finite; the means stay as they were.
        """
        check_pairs(rewards, scores)
        if not len(rewards):
            raise ValueError("rewards of at least one completion are needed")
        if not (rewards.isfinite() & scores.isfinite()).all():
            raise InvalidInputError("rewards and scores must be finite")
        sizes = scores.detach().abs().mean().item(), rewards.detach().abs().mean().item()
        before = self._means.get(model_version, (0.0, 0.0))
        score, reward = (
            self._decay * mean + (1 - self._decay) * size
            for mean, size in zip(before, sizes, strict=True)
        )
        self._means[model_version] = score, reward
        return rewards * self.factor(model_version)

    def factor(self, model_version: str) -> float:
        """What rewards of this version are multiplied by; 1 before its first batch."""
        if model_version not in self._means:
            return 1.0
        score, reward = self._means[model_version]
        smallest, largest = self._limits
        return min(max(score / reward, smallest), largest) if reward else largest
