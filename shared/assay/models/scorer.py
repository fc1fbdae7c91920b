"""The contract between serving and compute: what a reward model takes and gives.

A scorer turns a prompt and a completion into token ids, and a batch of those into one score per
member. It knows nothing of HTTP; those who serve it know nothing of tensors.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from assay.errors import InvalidInputError
from assay.schemas.models import ModelCard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from assay.schemas.text import Completion, Prompt

Truncate = Literal["left", "right", "error"]


@dataclass(frozen=True)
class EncodedInput:
    """One prompt with one completion, as the model reads it.

    Attributes:
        ids: token ids without padding.
        type_ids: segment ids of the same length, for models that have segments.
        truncated: True if the oldest prompt tokens were dropped.
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...] | None = None
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> bytes:
        """Equal for inputs that the model cannot tell apart."""
        digest = hashlib.blake2b(array("q", self.ids).tobytes(), digest_size=16)
        digest.update(b"|" if self.type_ids is None else bytes(self.type_ids))
        return digest.digest()


class Scorer(ABC):
    """A loaded version of a reward model."""

    card: ModelCard

    @abstractmethod
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
        """Join a prompt and a completion and tokenize them. Safe to call from several threads.

        Args:
            prompt: text, HH-style text or chat messages.
            completion: text, or assistant and tool messages.
            finished: False for a completion that the token limit cut; no end token is added.
            raw: True = no template and no parsing, prompt and completion as they are.
            truncate: what to do with an input over the limit: drop the oldest tokens or the last
                ones, special tokens excepted, or refuse it.
            max_tokens: a limit below the model's own, which holds if it is None or above that.

        Raises:
            InvalidInputError: too long with `truncate="error"`, or not fit for this model.
        """

    def encode_ids(
        self,
        ids: str | Sequence[int],
        *,
        truncate: Truncate = "left",
        max_tokens: int | None = None,
    ) -> EncodedInput:
        """Token ids of the model's own tokenizer, as a client made them: nothing is added.

        Args:
            ids: the ids, or a text that is tokenized as it is, with the special tokens in it.
            truncate: as for `encode`.
            max_tokens: as for `encode`.

        Raises:
            InvalidInputError: as for `encode`; or there are none, or the model has no such token.
        """
        raise InvalidInputError("this model takes texts, not token ids")

    @abstractmethod
    def format_used(self, *, raw: bool) -> str:
        """The name of the format that `encode` uses, for the reply."""

    @abstractmethod
    def score(self, batch: Sequence[EncodedInput]) -> NDArray[np.float64]:
        """Raw scores of a batch, shape `[len(batch), members]`; one forward pass, one thread.

        Equal to scoring each input alone, without padding, within float tolerance. Scores may
        be non-finite: the caller checks, so that one bad input does not take others with it.
        """

    def tensors(self) -> Iterator[Tensor]:
        """Its weights, those that it shares with other versions included; each may come twice."""
        return iter(())

    def park(self) -> bool:
        """Move weights that nobody shares to CPU memory; False where that makes no room."""
        return False

    def unpark(self) -> None:
        """Move them back."""
        raise NotImplementedError("nothing of it was parked")
