"""The rule `exact_match`: 1 if the answer is the label, else 0."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from assay.rewards.rules.labels import label_text
from assay.rewards.rules.regex import check_pattern
from assay.schemas.base import Inbound


class ExactMatch(Inbound):
    """1.0 if the completion, or the answer in it, equals the label, else 0.0.

    White space at both ends does not count. A label that is a list holds several right answers.
    """

    answer: str | None = Field(
        default=None,
        min_length=1,
        description="A regular expression that finds the answer: its last match, in it group 1 if "
        "there is one. None = the whole completion.",
    )
    ignore_case: bool = Field(default=False, description="True = case does not count.")

    @field_validator("answer")
    @classmethod
    def _readable(cls, answer: str | None) -> str | None:
        return None if answer is None else check_pattern(answer)

    def __call__(self, prompt: str, completion: str, label: object) -> float | None:
        """None without a label; 0.0 if there is no answer."""
        if label is None:
            return None
        right = {self._plain(label_text(one)) for one in _several(label)}
        answer = self._answer(completion)
        return float(answer is not None and self._plain(answer) in right)

    def _answer(self, completion: str) -> str | None:
        if self.answer is None:
            return completion
        matches = list(re.finditer(self.answer, completion))
        if not matches:
            return None
        answer: str | None = matches[-1][1 if matches[-1].re.groups else 0]
        return answer

    def _plain(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def _several(label: object) -> list[object]:
    return label if isinstance(label, list) else [label]
