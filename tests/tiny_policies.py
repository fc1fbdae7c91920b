"""Tiny random policies with real tokenizers, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tiny_models import byte_tokenizer

SIZES: dict[str, dict[str, Any]] = {
    "Llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 256,
    },
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
}


def save_policy(
    folder: Path, family: str = "Llama", template: str | None = None, ends: int = 0
) -> Path:
    """A random causal language model of one token a byte, as transformers saves it.

    Args:
        folder: where to.
        family: of `SIZES`.
        template: for chats.
        ends: so many bytes, the upper ones, end a text too, so that some texts are short.
    """
    special = {"bos_token": "<bos>", "eos_token": "<eos>"}
    if family == "Llama":
        special |= {"pad_token": "<pad>"}
    tokenizer = byte_tokenizer(special, template)
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(word) for name, word in special.items()}
    config = getattr(hf, f"{family}Config")(vocab_size=len(tokenizer), **ids, **SIZES[family])
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.generation_config.eos_token_id = [
        ids["eos_token_id"],
        *range(len(tokenizer) - ends, len(tokenizer)),
    ]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
