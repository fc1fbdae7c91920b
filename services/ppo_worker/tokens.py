"""Completions behind their prompts, as one rectangle of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Tokens:
    """B prompts, padded on the left, each with its completion, padded on the right.

    So every completion begins in the same column.

    Attributes:
        ids: shape [B, P + T].
        attention_mask: shape [B, P + T], 1 = a token, 0 = padding.
        completion_mask: shape [B, T], bool; True = a token of the completion or its end token.
    """

    ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """T, the longest completion that fits."""
        return self.completion_mask.shape[1]

    @property
    def completions(self) -> Tensor:
        """Ids of the completions, shape [B, T]."""
        return self.ids[:, self.ids.shape[1] - self.width :]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, its end token included, shape [B]."""
        return self.completion_mask.sum(dim=1)

    @property
    def position_ids(self) -> Tensor:
        """Position of each token in its own text, shape [B, P + T]."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    def rows(self, rows: Tensor) -> Tokens:
        """Some of them, without columns in which all have padding."""
        prompts = self.attention_mask[rows, : self.ids.shape[1] - self.width]
        masks = self.completion_mask[rows]
        left = _empty_before(prompts)
        cut = _empty_before(masks.flip(1))
        columns = slice(left, self.ids.shape[1] - cut)
        return Tokens(
            self.ids[rows][:, columns],
            self.attention_mask[rows][:, columns],
            masks[:, : self.width - cut],
        )

    def to(self, device: torch.device) -> Tokens:
        """On a device."""
        return Tokens(*(part.to(device) for part in self.parts))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three tensors."""
        return self.ids, self.attention_mask, self.completion_mask


def after_prompts(
    prompts: Tensor, mask: Tensor, completions: Tensor, ends: Sequence[int]
) -> Tokens:
    """Put what was sampled behind its prompts; whatever follows an end token is padding.

    Args:
        prompts: padded on the left, shape [B, P].
        mask: their attention mask, shape [B, P].
        completions: as they were sampled, shape [B, T].
        ends: ids of the end tokens.
    """
    is_end = torch.isin(completions, torch.tensor(list(ends), device=completions.device))
    ended_before = is_end.cumsum(dim=1) - is_end.long()
    completion_mask = ended_before == 0
    return Tokens(
        torch.cat([prompts, completions], dim=1),
        torch.cat([mask, completion_mask.to(mask)], dim=1),
        completion_mask,
    )


def join(parts: Sequence[Tokens], pad_id: int) -> Tokens:
    """One rectangle out of several."""
    width = max(part.width for part in parts)
    start = max(part.ids.shape[1] - part.width for part in parts)
    columns = []
    for part in parts:
        sides = start - (part.ids.shape[1] - part.width), width - part.width
        columns.append(
            (
                pad(part.ids, sides, value=pad_id),
                pad(part.attention_mask, sides),
                pad(part.completion_mask, (0, sides[1])),
            )
        )
    return Tokens(*(torch.cat(column) for column in zip(*columns, strict=True)))


def in_parts(rows: Tensor, size: int) -> list[Tensor]:
    """Row numbers in parts of a size, the last one of what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _empty_before(mask: Tensor) -> int:
    """Columns before the first one that holds anything; all but one if none does."""
    used = mask.any(dim=0).nonzero()
    return int(used[0]) if len(used) else max(mask.shape[1] - 1, 0)
