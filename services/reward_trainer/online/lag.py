"""How far samples are behind the step that their policy has come to."""

from __future__ import annotations

from pydantic import BaseModel

from assay.errors import DataError
from assay.schemas.storage import Sample

_POLICIES = 64  # names come from clients


class Steps(BaseModel):
    """The largest step among the newest entries of one policy.

    Attributes:
        entries: seen so far.
        peaks: number and step of entries that no later one has reached, so that steps fall.
    """

    entries: int = 0
    peaks: list[tuple[int, int]] = []

    def newest(self, step: int, span: int) -> int:
        """Take in a step; the largest of the last `span`, so that a wild one is forgotten."""
        self.entries += 1
        higher = [peak for peak in self.peaks if peak[1] > step and peak[0] > self.entries - span]
        self.peaks = [*higher, (self.entries, step)]
        return self.peaks[0][1]


class Lag(BaseModel):
    """The newest steps of the policies; a checkpoint holds them.

    Attributes:
        policies: those that were heard of last, the newest at the end.
    """

    policies: dict[str, Steps] = {}

    def check(self, sample: Sample, most: int | None, span: int) -> None:
        """Refuse a sample of a policy that has moved on.

        Args:
            sample: with its policy's step, or without one.
            most: largest lag; None = any.
            span: how many entries of the policy decide where it is.

        Raises:
            DataError: it is further behind.
        """
        if sample.step is None or most is None:
            return
        steps = self.policies.pop(sample.policy, Steps())
        self.policies[sample.policy] = steps
        if len(self.policies) > _POLICIES:
            del self.policies[next(iter(self.policies))]
        lag = steps.newest(sample.step, span) - sample.step
        if lag > most:
            raise DataError(f"stale: {lag} steps behind, of {most} at most")
