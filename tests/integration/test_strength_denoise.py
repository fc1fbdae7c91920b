"""Measured and denoised files in the hands of others: the commands, and TRL's RewardTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from reward_trainer.denoise.policy import Policy
from reward_trainer.denoise.run import DenoiseSettings, run
from reward_trainer.preferences.writing import write_preferences
from reward_trainer.strength.columns import add_strength
from tiny_models import save_family

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ROWS = 8


def measured(path: Path, conversational: bool) -> Path:
    def say(role: str, text: str) -> Any:
        return [{"role": role, "content": text}] if conversational else text

    table = datasets.Dataset.from_dict(
        {
            "prompt": [say("user", f"Question {i}? ") for i in range(ROWS)],
            "chosen": [say("assistant", f"good {i}") for i in range(ROWS)],
            "rejected": [say("assistant", f"bad {i}{i}") for i in range(ROWS)],
        }
    )
    differences = np.random.default_rng(1).normal(0.2, 1.0, size=(ROWS, 4))
    write_preferences(add_strength(table, differences, "toy@1"), path)
    return path


@pytest.mark.parametrize(
    ("action", "rows", "has_margin", "conversational"),
    [
        ("flip", ROWS, False, False),
        ("flip+margin", ROWS, True, True),
        ("drop+margin", ROWS - 2, True, False),
        ("smooth+margin", 5 * ROWS, True, True),
    ],
)
def test_trl_trains_on_a_denoised_file_as_it_is(
    tmp_path: Path, action: str, rows: int, has_margin: bool, conversational: bool
) -> None:
    data, out = measured(tmp_path / "a.jsonl", conversational), tmp_path / "b.jsonl"
    policy = Policy.model_validate({"action": action, "by": "quantile", "below": 0.25})
    expand = action.startswith("smooth")
    run(DenoiseSettings(data=str(data), out=out, policy=policy, expand=expand), Console(quiet=True))
    folder = str(save_family("llama", tmp_path / "model"))
    table = datasets.load_dataset(
        "json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache")
    )
    config = RewardConfig(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=rows,
        max_steps=2,
        learning_rate=0.0,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        save_strategy="no",
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=table,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    tokenised: Any = trainer.train_dataset
    assert len(tokenised) == rows
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    margins = torch.tensor(table["margin"][:]) if has_margin else torch.zeros(rows)
    gaps = [
        float(_score(model, row["chosen_ids"]) - _score(model, row["rejected_ids"]))
        for row in tokenised
    ]
    expected = torch.nn.functional.softplus(margins - torch.tensor(gaps)).mean().item()
    np.testing.assert_allclose(losses, [expected, expected], rtol=1e-4)


@torch.inference_mode()
def _score(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0, 0]
    return logits
