"""A tiny task for the PPO worker, and runs of it in tests."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ppo_worker.run import train
from ppo_worker.settings import PPOSettings
from tiny_policies import save_policy

STEPS = 3


def save_task(folder: Path) -> Path:
    """A policy, of which some completions end early, and prompts."""
    save_policy(folder / "policy", ends=40)
    rows = [
        {"prompt": f"prompt {i}", "split": "train" if i < 18 else "held_out"} for i in range(22)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(task: Path, run: Path, url: str, **changes: Any) -> PPOSettings:
    fields = {
        "policy": str(task / "policy"),
        "prompts": task / "prompts.jsonl",
        "run": run,
        "url": url,
        "steps": STEPS,
        "critic_steps": 1,
        "prompts_per_step": 6,
        "completions_per_prompt": 4,
        "mini_batch": 12,
        "micro_batch": 6,
        "max_new_tokens": 12,
        "policy_learning_rate": 1e-3,
        "value_learning_rate": 1e-2,
        "evaluate_steps": 2,
        "held_out_completions": 2,
        "device": "cpu",
    }
    return PPOSettings(_env_file=None, **{**fields, **changes})


def forked(changed: PPOSettings) -> BaseProcess:
    """A worker in a process of its own, which may be killed; see `ForkedTrainer`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ppo_worker.run"])
    process = context.Process(target=_train, args=(changed,))
    process.start()
    return process


def _train(changed: PPOSettings) -> None:
    torch.set_num_threads(1)
    train(changed, None)
