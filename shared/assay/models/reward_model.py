"""A loaded reward model: members, input encoder and card behind the `Scorer` contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.models.scorer import EncodedInput, Scorer

if TYPE_CHECKING:
    from torch import Tensor

    from assay.models.inputs import InputEncoder, InputFormat
    from assay.models.members import Members
    from assay.models.scorer import Truncate
    from assay.schemas.models import ModelCard
    from assay.schemas.text import Completion, Prompt


@dataclass(frozen=True)
class RewardModel(Scorer):
    """What `load` returns and the engine drives."""

    card: ModelCard
    encoder: InputEncoder
    members: Members

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
        """See `Scorer.encode`."""
        return self.encoder.encode(
            prompt,
            completion,
            finished=finished,
            raw=raw,
            truncate=truncate,
            max_tokens=max_tokens,
        )

    def encode_ids(
        self,
        ids: str | Sequence[int],
        *,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        """See `Scorer.encode_ids`."""
        return self.encoder.encode_ids(ids, truncate=truncate, max_tokens=max_tokens)

    def format_used(self, *, raw: bool) -> InputFormat:
        """See `Scorer.format_used`."""
        return self.encoder.format_used(raw=raw)

    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        """See `Scorer.score`."""
        return self.members.score(batch).double().numpy()

    def tensors(self) -> Iterator[Tensor]:
        """See `Scorer.tensors`."""
        return self.members.tensors()

    def park(self) -> bool:
        """See `Scorer.park`."""
        return self.members.park()

    def unpark(self) -> None:
        """See `Scorer.unpark`."""
        self.members.unpark()
