"""A scorer that is a function of the texts: for tests of what is made of the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from assay.models.inputs import as_completion_text, as_text
from assay.models.scorer import EncodedInput, Scorer, Truncate
from assay.schemas.models import Calibration, ModelCard, ModelInfo
from assay.schemas.text import Completion, Prompt

Score = Callable[[str, str], float]


class TextScorer(Scorer):
    """Member m scores `members[m](prompt, completion)`."""

    def __init__(
        self, *members: Score, name: str = "texts@1", calibration: Calibration | None = None
    ) -> None:
        self._members = members
        info = ModelInfo(
            alias=[],
            replicas=0,
            format="concat",
            pool="last",
            members=len(members),
            max_tokens=10_000,
            digest=name,
            lineage=[],
            metrics={},
            recipe={},
            calibration=calibration,
        )
        self.card = ModelCard(id=name, assay=info)

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
        return EncodedInput(tuple(f"{as_text(prompt)}\0{as_completion_text(completion)}".encode()))

    def format_used(self, *, raw: bool) -> str:
        return "concat"

    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        texts = [bytes(text.ids).decode().partition("\0") for text in batch]  # warm-up: no "\0"
        return np.array([[score(a, b) for score in self._members] for a, _, b in texts])


def telling_scorer(members: int = 3, name: str = "texts@1") -> TextScorer:
    """A calibrated ensemble that tells any two inputs apart: each character and its place count,
    and where the prompt ends."""

    def member(number: int) -> Score:
        def score(prompt: str, completion: str) -> float:
            text = f"{prompt}\n|{completion}"
            return sum(ord(c) * (1 + i * (number + 7) % 13) for i, c in enumerate(text)) / 1e4 - 3.0

        return score

    calibration = Calibration(
        pairs=100,
        offsets=[0.0] * members,
        temperature=2.0,
        quantiles=np.linspace(-10.0, 10.0, 101).tolist(),
        digest="texts",
    )
    return TextScorer(*map(member, range(members)), name=name, calibration=calibration)
