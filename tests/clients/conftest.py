"""A real server on a socket, whose scores tell any two texts apart, and a tiny policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from reward_server.app import create_app
from text_scorer import telling_scorer
from tiny_models import CHATML, byte_tokenizer
from toy import http_server, toy_settings

SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a server without keys and Redis; verl names the model by a path of its own."""
    with http_server(create_app(toy_settings(compat_any_model=True), telling_scorer())) as base:
        yield base


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte, with Qwen's template and special tokens."""
    return byte_tokenizer(SPECIAL, CHATML)


@pytest.fixture(scope="session")
def policy(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers."""
    folder = tmp_path_factory.mktemp("policy")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
