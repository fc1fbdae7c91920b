"""The rule `length_penalty`: soft overlong punishment (arXiv 2503.14476, Eq. 13)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from assay.schemas.base import Inbound


class LengthPenalty(Inbound):
    """0 up to `free`, -1 from `full` on, a straight line between them.

        r(n) = 0                          n <= free
               -(n - free)/(full - free)  between
               -1                         n >= full

    Deviation: the paper counts tokens of the policy, which the server does not know.
    """

    free: int = Field(ge=0, description="Length up to which nothing is taken off.")
    full: int = Field(ge=1, description="Length from which the whole penalty is taken off.")
    unit: Literal["words", "characters"] = "words"

    @model_validator(mode="after")
    def _in_order(self) -> LengthPenalty:
        if self.full <= self.free:
            raise ValueError(f"full {self.full} must exceed free {self.free}")
        return self

    def __call__(self, prompt: str, completion: str, label: object) -> float:
        """The penalty, from -1 to 0."""
        length = len(completion.split()) if self.unit == "words" else len(completion)
        over = (length - self.free) / (self.full - self.free)
        return 0.0 - min(1.0, max(0.0, over))
