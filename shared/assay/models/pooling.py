"""From a padded batch to one score per row: where the score is read off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from assay.errors import ModelLoadError
from assay.models.scorer import EncodedInput

Pool = Literal["last", "transformers", "mean"]


class Pooler:
    """Scores a batch with one model, whatever the padding.

    A decoder's score belongs at the last real token. transformers looks for the last token that
    is not the pad token, which is one too early where pad and end token are the same; `last`
    goes by the lengths instead. Encoders pool by themselves (first token, mask) and are left to,
    unless `mean` puts the head on the mean of all real tokens: an encoder that was trained for
    sentence embeddings has learned nothing in its first token.

    Args:
        model: a sequence classifier with one label; not yet wrapped by peft.
        pool: `last`, `transformers` to reproduce what transformers does, or `mean`.
        pad_id: any id will do for `last`; models that derive positions from it need their own.

    Raises:
        ModelLoadError: `mean`, and the head does not take what the layers give.
    """

    def __init__(self, model: PreTrainedModel, pool: Pool, pad_id: int) -> None:
        self.model = model
        self.pool = pool
        self._head = _mean_head(model) if pool == "mean" else "score"
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
        if self.pool == "mean":
            return self._read(_mean(self._hidden(inputs), inputs["attention_mask"]))
        if self.reads_last_token:
            return self._read(_last(self._hidden(inputs), inputs["attention_mask"]))
        logits: Tensor = self.model(**inputs).logits
        return logits[:, 0].float()

    def _hidden(self, inputs: dict[str, Tensor]) -> Tensor:
        backbone = getattr(self.model, self.model.base_model_prefix)
        cache = {"use_cache": False} if self.reads_last_token else {}
        hidden: Tensor = backbone(**inputs, **cache).last_hidden_state
        return hidden

    def _read(self, pooled: Tensor) -> Tensor:
        # Looked up each time: peft puts its own module in the head's place.
        scores: Tensor = self.model.get_submodule(self._head)(pooled)
        return scores[:, 0].float()


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    last = (mask.sum(dim=1) - 1).to(hidden.device)
    return hidden[torch.arange(len(last), device=hidden.device), last]


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(hidden.device, hidden.dtype)[..., None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _mean_head(model: PreTrainedModel) -> str:
    head = reward_head(model)
    width = model.config.get_text_config().hidden_size
    if head.in_features != width:
        raise ModelLoadError(
            f"{type(model).__name__} cannot pool by mean: its head takes {head.in_features} "
            f"values, and its layers give {width}"
        )
    names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
    return names[id(head)]


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
        head.bias = nn.Parameter(head.weight.new_zeros(head.out_features))
