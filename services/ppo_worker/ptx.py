"""Texts that the policy is not to forget, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.errors import DataError
from ppo_worker.loading import Codec
from ppo_worker.seeds import generator


class Texts:
    """Encoded texts of the loss on what the policy was pre-trained on.

    Args:
        texts: one or more; what exceeds the limit is cut off at the end.
        codec: of the policy.
        limit: tokens of a text.
        seed: decides what a batch holds.

    Raises:
        DataError: no text has two tokens.
    """

    def __init__(self, texts: Sequence[str], codec: Codec, limit: int, seed: int) -> None:
        encoded = [list(codec.tokenizer(text)["input_ids"])[:limit] for text in texts]
        self._rows = [ids for ids in encoded if len(ids) > 1]
        if not self._rows:
            raise DataError("ptx_texts: no text has two tokens")
        self._pad, self._seed = codec.pad, seed

    def batch(self, size: int, step: int, update: int) -> tuple[Tensor, Tensor]:
        """Ids and attention mask for an update, each of shape [size, T], padded on the right."""
        numbers = generator(self._seed, f"texts of step {step}", update)
        chosen = torch.randint(len(self._rows), (size,), generator=numbers).tolist()
        rows = [self._rows[index] for index in chosen]
        longest = max(map(len, rows))
        ids = [row + [self._pad] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return torch.tensor(ids), torch.tensor(mask)
