"""Trains the default policy: a resumable loop in which all is decided by the recipe's seed."""

from __future__ import annotations

import math
import pickle
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import LlamaConfig, LlamaForCausalLM

from assay.errors import DataError
from ppo_worker.demo.corpus import Source

_CHECKPOINT = "checkpoint.pt"


class Recipe(BaseModel):
    """Everything that the policy depends on but its texts."""

    model_config = ConfigDict(frozen=True)

    seed: int = 0
    vocabulary: int = 3072
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 512
    row_tokens: int = Field(default=256, description="Tokens of a row; it begins with a document.")
    batch_rows: int = Field(default=8, description="Rows of a step.")
    learning_rate: float = Field(default=3e-3, description="Highest; it rises, then falls to 0.")
    warmup_steps: int = 60
    weight_decay: float = 0.1
    passes: dict[Source, tuple[int, ...]] = Field(
        default={"samples": (1, 1), "replies": (1, 1), "arguments": (2, 6)},
        description="How often each epoch goes over the texts of a source.",
    )


@dataclass(frozen=True)
class Step:
    """Where the training is."""

    number: int
    of: int
    loss: float
    tokens_per_s: float


def new_model(recipe: Recipe, *, end: int, pad: int) -> LlamaForCausalLM:
    """Random weights of the recipe's shape."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=recipe.row_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config)


def training_rows(encoded: Sequence[tuple[Source, Sequence[array[int]]]], recipe: Recipe) -> Tensor:
    """All that is trained on, in its order.

    Args:
        encoded: the source of each document, and its tokens with each of its prompts.
        recipe: its seed shuffles each epoch.

    Returns:
        [rows, row_tokens], int64. The last document of a row is cut.
    """
    rows: list[array[int]] = []
    for epoch in range(max(map(len, recipe.passes.values()))):
        rows += _rows_of_epoch(encoded, recipe, epoch)
    return torch.tensor(rows, dtype=torch.int64).view(-1, recipe.row_tokens)


def _rows_of_epoch(
    encoded: Sequence[tuple[Source, Sequence[array[int]]]], recipe: Recipe, epoch: int
) -> list[array[int]]:
    texts = []
    for source, versions in encoded:
        earlier, passes = sum(recipe.passes[source][:epoch]), recipe.passes[source][epoch]
        texts += [versions[(earlier + number) % len(versions)] for number in range(passes)]
    generator = torch.Generator().manual_seed(recipe.seed + epoch)
    rows, row = [], array("H")
    for index in torch.randperm(len(texts), generator=generator).tolist():
        row += texts[index]
        if len(row) >= recipe.row_tokens:
            rows.append(row[: recipe.row_tokens])
            row = array("H")
    return rows


def train(
    model: LlamaForCausalLM,
    rows: Tensor,
    recipe: Recipe,
    folder: Path,
    *,
    identity: str,
    checkpoint_every: int = 100,
    tell: Callable[[Step], None] = lambda step: None,
) -> None:
    """Train a model in place, from the folder's checkpoint if there is one.

    Args:
        model: random weights.
        rows: `[rows, row_tokens]`; a step takes the next `batch_rows` of them.
        recipe: rates and sizes.
        folder: for the checkpoint; it exists.
        identity: of recipe and texts; a checkpoint of others is refused.
        checkpoint_every: steps between two checkpoints; the last step leaves one too.
        tell: called after each step.

    Raises:
        DataError: the checkpoint is damaged or of another training, or the loss is not finite.
    """
    steps = len(rows) // recipe.batch_rows
    if not steps:
        raise DataError(f"{len(rows)} rows of text are less than one step of {recipe.batch_rows}")
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    done = _resume(model, optimizer, folder / _CHECKPOINT, identity)
    model.train()
    for number in range(done, steps):
        began = time.perf_counter()
        batch = rows[number * recipe.batch_rows : (number + 1) * recipe.batch_rows]
        loss = _step(model, optimizer, batch, _rate(recipe, number, steps))
        if not math.isfinite(loss):
            raise DataError(f"the loss of step {number + 1} is {loss}: lower learning_rate")
        tell(Step(number + 1, steps, loss, batch.numel() / (time.perf_counter() - began)))
        if (number + 1) % checkpoint_every == 0 or number + 1 == steps:
            _save(model, optimizer, folder / _CHECKPOINT, identity, number + 1)
    model.train(mode=False)


def _step(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, batch: Tensor, rate: float
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _rate(recipe: Recipe, number: int, steps: int) -> float:
    """Up in `warmup_steps`, then down to 0 along a cosine."""
    rise = min(1.0, (number + 1) / recipe.warmup_steps)
    return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * number / steps))


def _save(
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    path: Path,
    identity: str,
    step: int,
) -> None:
    state = {
        "identity": identity,
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    draft = path.with_suffix(".tmp")
    torch.save(state, draft)
    draft.replace(path)


def _resume(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, path: Path, identity: str
) -> int:
    if not path.exists():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is damaged: remove it to start anew") from error
    if state.get("identity") != identity:
        raise DataError(f"{path} is of another recipe or other texts: remove it, or choose --work")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
