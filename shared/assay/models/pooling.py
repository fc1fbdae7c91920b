"""From a padded batch to one score per row: where the score is read off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from assay.errors import ModelLoadError
from assay.models.scorer import EncodedInput

Pool = Literal["last", "transformers"]


class Pooler:
    """Scores a batch with one model, whatever the padding.

    A decoder's score belongs at the last real token. transformers looks for the last token that
    is not the pad token, which is one too early where pad and end token are the same; `last`
    goes by the lengths instead. Encoders pool by themselves (first token, mask) and are left to.

    Args:
        model: a sequence classifier with one label; not yet wrapped by peft.
        pool: `last`, or `transformers` to reproduce what transformers does.
        pad_id: any id will do for `last`; models that derive positions from it need their own.
    """

    def __init__(self, model: PreTrainedModel, pool: Pool, pad_id: int) -> None:
        self.model = model
        self.reads_last_token = pool == "last" and isinstance(
            getattr(model, "score", None), nn.Linear
        )
        self._pad_id = pad_id

    def collate(self, batch: Sequence[EncodedInput]) -> dict[str, Tensor]:
        """Pad a batch on the right: `input_ids` and `attention_mask`, [batch, longest]."""
        longest = max(len(row) for row in batch)
        inputs = {
            "input_ids": _pad([row.ids for row in batch], longest, self._pad_id),
            "attention_mask": _pad([(1,) * len(row) for row in batch], longest, 0),
        }
        type_ids = [row.type_ids for row in batch if row.type_ids is not None]
        if type_ids:
            inputs["token_type_ids"] = _pad(type_ids, longest, 0)
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """Scores of a collated batch, shape [batch], fp32."""
        if not self.reads_last_token:
            logits: Tensor = self.model(**inputs).logits
            return logits[:, 0].float()
        backbone = getattr(self.model, self.model.base_model_prefix)
        hidden = backbone(**inputs, use_cache=False).last_hidden_state
        last = inputs["attention_mask"].sum(dim=1) - 1
        rows = torch.arange(len(last), device=hidden.device)
        head: nn.Module = self.model.get_submodule("score")
        pooled: Tensor = head(hidden[rows, last.to(hidden.device)])
        return pooled[:, 0].float()


def _pad(rows: Sequence[Sequence[int]], length: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def reward_head(model: nn.Module, adapter: str | None = None) -> nn.Linear:
    """The linear layer that gives the score: the last one with a single output.

    Args:
        model: a sequence classifier, or a peft model around one.
        adapter: the peft adapter whose own copy of the head is wanted.

    Raises:
        ModelLoadError: there is none.
    """
    heads = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == 1
        and (adapter is None or f".modules_to_save.{adapter}" in f".{name}.")
    ]
    if not heads:
        raise ModelLoadError(f"{type(model).__name__} has no head with a single output")
    return heads[-1]


def ensure_head_bias(model: PreTrainedModel) -> None:
    """Give a head without bias one of 0, so that an ensemble can centre its members."""
    head = reward_head(model)
    if getattr(head, "bias", None) is None:
        head.bias = nn.Parameter(torch.zeros_like(head.weight[:, 0]))
