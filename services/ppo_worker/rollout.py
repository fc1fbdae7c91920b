"""Sampling completions from a policy, in batches with a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from assay.schemas.text import Prompt
from ppo_worker.loading import Codec
from ppo_worker.policy import LanguageModel
from ppo_worker.tokens import Tokens, after_prompts, join


@dataclass(frozen=True)
class Rollout:
    """Groups of completions, a group's one after the other.

    Attributes:
        prompts: one a group.
        size: completions of a group.
        tokens: prompts and completions, `size` rows a group.
        texts: of the completions; empty where a policy ended at once.
        finished: False = cut by the limit of tokens.
    """

    prompts: Sequence[Prompt]
    size: int
    tokens: Tokens
    texts: Sequence[str]
    finished: Sequence[bool]

    def group(self, index: int) -> range:
        """Rows of the completions of a group."""
        return range(index * self.size, (index + 1) * self.size)


@torch.no_grad()
def sample(
    model: LanguageModel, codec: Codec, prompts: Sequence[Prompt], size: int, at_once: int
) -> Rollout:
    """Sample `size` completions of each prompt; what is drawn comes from torch's own numbers.

    Args:
        model: with the sampling options as its generation config.
        codec: of the same model.
        prompts: one or more.
        size: completions of a prompt.
        at_once: rows in the model at once.
    """
    rows = [ids for ids in map(codec.encode, prompts) for _ in range(size)]
    generate = cast(Callable[..., Tensor], model.generate)
    parts = []
    for start in range(0, len(rows), at_once):
        ids, mask = _padded(rows[start : start + at_once], codec.pad, model.device)
        sampled = generate(input_ids=ids, attention_mask=mask)
        parts.append(after_prompts(ids, mask, sampled[:, ids.shape[1] :], codec.ends))
    tokens = join(parts, codec.pad).to(torch.device("cpu"))
    return Rollout(prompts, size, tokens, _texts(tokens, codec), _finished(tokens, codec))


def _padded(rows: Sequence[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, padded on the left."""
    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _texts(tokens: Tokens, codec: Codec) -> list[str]:
    rows = zip(tokens.completions.tolist(), tokens.lengths.tolist(), strict=True)
    return [codec.decode(ids[:length]) for ids, length in rows]


def _finished(tokens: Tokens, codec: Codec) -> list[bool]:
    last = tokens.completions.gather(1, tokens.lengths.unsqueeze(1) - 1)
    return [end in codec.ends for end in last.squeeze(1).tolist()]
