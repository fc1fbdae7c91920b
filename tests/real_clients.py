"""OpenRLHF's and verl's own code, from folders that `make install` fills, without GPU stacks.

The folders hold the packages without what they depend on. Of OpenRLHF only `openrlhf.utils.agent`
is imported, past `openrlhf/utils/__init__.py`, which wants deepspeed. verl imports as it is.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tiny_models import CHATML, byte_tokenizer

CLIENTS = Path(sys.prefix) / "clients"


def _folder(name: str) -> Path:
    folder = CLIENTS / name
    assert folder.exists(), f"{folder} is missing: make install"
    return folder


def own_python(client: str) -> Path:
    """The Python of a client that has an environment of its own."""
    python = CLIENTS / client / "bin" / "python"
    assert python.exists(), f"{python} is missing: make test-clients"
    return python


@cache
def openrlhf_agent() -> Any:
    """The module with `SingleTurnAgentExecutor`."""
    for name in ("openrlhf", "openrlhf.utils"):
        package = ModuleType(name)
        package.__path__ = [str(_folder("openrlhf").joinpath(*name.split(".")))]
        sys.modules[name] = package
    return importlib.import_module("openrlhf.utils.agent")


@cache
def verl(name: str) -> Any:
    """A module of verl."""
    folder = str(_folder("verl"))
    if folder not in sys.path:
        sys.path.append(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # while it imports what it imports
        return importlib.import_module(name)


def save_policy(folder: Path) -> PreTrainedTokenizerBase:
    """A policy's tokenizer: one token a byte, with Qwen's template and special tokens."""
    tokenizer = byte_tokenizer({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, CHATML)
    tokenizer.save_pretrained(folder)
    return tokenizer


def verl_config(policy: Path, **reward: Any) -> Any:
    """What verl's reward loop reads of its configuration.

    Args:
        policy: folder with the policy's tokenizer.
        reward: replaces parts of the section `reward`.
    """
    section: dict[str, Any] = {
        "num_workers": 1,
        "reward_manager": {"source": "register", "name": "naive", "module": None},
        "custom_reward_function": {"path": None, "name": "compute_score", "reward_kwargs": {}},
        "reward_model": {"enable": False, "model_path": None, "rollout": {"name": "vllm"}},
        **reward,
    }
    model = {"path": str(policy), "tokenizer_path": None}
    whole = {
        "actor_rollout_ref": {"model": model},
        "reward": section,
        "trainer": {"experiment_name": "test"},
    }
    return verl("omegaconf").OmegaConf.create(whole)


def verl_data(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[dict[str, str]],
    completion: str,
    index: int = 0,
) -> Any:
    """One sample as verl's agent loop hands it to a reward loop."""
    import numpy as np

    ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
    responses = torch.tensor([[*ids, tokenizer.eos_token_id]])
    tensors = {
        "prompts": torch.zeros((1, 1), dtype=torch.long),
        "responses": responses,
        "attention_mask": torch.ones((1, responses.shape[1] + 1), dtype=torch.long),
    }
    others = {
        "raw_prompt": prompt,
        "data_source": "test",
        "reward_model": {"ground_truth": None},
        "extra_info": {"index": index},
        "tool_extra_fields": {"raw_prompt": prompt},
    }
    boxed = {}
    for name, value in others.items():
        boxed[name] = np.empty(1, dtype=object)
        boxed[name][0] = value
    protocol = verl("verl.protocol")
    return protocol.DataProto.from_dict(tensors=tensors, non_tensors=boxed)


class Hurried:
    """`asyncio` for a client's module, without the pauses between its tries."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, _: float) -> None:
        await asyncio.sleep(0)
