"""A real server on a socket, whose scores tell any two texts apart, and a tiny policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from real_clients import save_policy
from reward_server.app import create_app
from text_scorer import telling_scorer
from toy import http_server, toy_settings


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a server without keys and Redis; verl names the model by a path of its own."""
    with http_server(create_app(toy_settings(compat_any_model=True), telling_scorer())) as base:
        yield base


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers."""
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = save_policy(folder)
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
    return folder


@pytest.fixture(scope="session")
def tokenizer(policy: Path) -> PreTrainedTokenizerBase:
    """The policy's."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(policy)
    return loaded
