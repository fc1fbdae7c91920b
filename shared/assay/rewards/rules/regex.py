"""The rule `regex`: 1 if a pattern is found in the completion, else 0."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from assay.rewards.rules.labels import label_text
from assay.schemas.base import Inbound

_LABEL = "{label}"


def check_pattern(pattern: str) -> str:
    """A pattern that Python's `re` reads; it stands in a validator.

    Raises:
        ValueError: it cannot be read, and why.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


class Regex(Inbound):
    """1.0 if the pattern is found, else 0.0."""

    pattern: str = Field(
        min_length=1,
        description="A Python regular expression; `{label}` in it stands for the label, literally.",
    )
    whole: bool = Field(default=False, description="True = it must match the whole completion.")
    ignore_case: bool = Field(default=False, description="True = case does not count.")

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str) -> str:
        check_pattern(pattern.replace(_LABEL, "label"))
        return pattern

    def __call__(self, prompt: str, completion: str, label: object) -> float | None:
        """None if the pattern needs a label and there is none."""
        pattern = self.pattern
        if _LABEL in pattern:
            if label is None:
                return None
            pattern = pattern.replace(_LABEL, re.escape(label_text(label)))
        find = re.fullmatch if self.whole else re.search
        flags = re.IGNORECASE if self.ignore_case else re.NOFLAG
        return float(find(pattern, completion, flags) is not None)
