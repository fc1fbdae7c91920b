"""Measured and denoised files in the hands of others: the commands, and TRL's RewardTrainer."""

from __future__ import annotations

import json
import subprocess
import sys
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
from typer.testing import CliRunner

from reward_trainer.__main__ import app
from reward_trainer.denoise.policy import Policy
from reward_trainer.denoise.run import DenoiseSettings, run
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.writing import write_preferences
from reward_trainer.strength.columns import add_strength
from reward_trainer.strength.run import StrengthSettings, strength
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


TOY_RECIPE = """
name = "toy"
version = 1
model = "toy"
backbone = "{backbone}"
members = 2
trunk_layers = 1
layers = 2
rank = 4
alpha = 8
max_tokens = 96
train_tokens = 64
dropout = 0.0
learning_rate = 1e-2
epochs = 6
step_tokens = 400
"""


def test_cross_fitted_members_find_the_labels_that_were_turned_round(tmp_path: Path) -> None:
    texts = [("ab" * 3 + str(i), "yz" * 3 + str(i)) for i in range(48)]
    turned = np.random.default_rng(0).random(48) < 0.25
    rows = [
        {
            "prompt": f"\n\nHuman: question {i % 12}\n\nAssistant:",
            "chosen": bad if wrong else good,
            "rejected": good if wrong else bad,
        }
        for i, ((good, bad), wrong) in enumerate(zip(texts, turned, strict=True))
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    backbone = save_family("bert", tmp_path / "backbone")
    (tmp_path / "toy.toml").write_text(TOY_RECIPE.format(backbone=backbone))
    settings = StrengthSettings(
        data=str(tmp_path / "a.jsonl"),
        out=tmp_path / "b.jsonl",
        cross_fit=3,
        recipe=str(tmp_path / "toy.toml"),
        device="cpu",
    )
    summary = strength(settings, Console(quiet=True))
    assert summary.members == 2
    table = read_preferences(str(tmp_path / "b.jsonl"))
    np.testing.assert_array_equal(np.array(table["strength_mean"][:]) < 0, turned)
    assert not (tmp_path / "b.jsonl.work").exists()


PAIRS = [
    {
        "prompt": f"\n\nHuman: How do I cook rice, take {i}?\n\nAssistant:",
        "chosen": f"Rinse it, add {i + 1} cups of water, boil, then simmer for fifteen minutes.",
        "rejected": "No idea.",
        "label": 1 - i % 2,
    }
    for i in range(6)
]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(done, capture_output=True, text=True, timeout=240)


def test_the_commands_measure_denoise_and_undo(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.parquet", "c.jsonl", "d.jsonl")]
    pairs, measured_file, denoised, undone = map(str, files)
    files[0].write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    report = tmp_path / "report"
    options = ["--out", measured_file, "--label", "label", "--report", str(report)]
    done = command("strength", pairs, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [measured_file]
    assert "Strength by assay-minilm@" in done.stderr
    assert sorted(path.name for path in report.iterdir()) == [
        "agreement.png",
        "histogram.png",
        "spread.png",
        "summary.json",
    ]
    table = read_preferences(measured_file)
    assert set(table["strength_members"]) == {5}
    drop = ["denoise", measured_file, "--out", denoised, "--action", "drop"]
    undo = ["denoise", denoised, "--out", undone, "--undo"]
    assert [CliRunner().invoke(app, words).exit_code for words in (drop, undo)] == [0, 0]
    assert list(read_preferences(undone)) == list(table)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["strength", "no.jsonl", "--out", "b.jsonl"], "strength: no.jsonl: no such file"),
        (["strength", "a.jsonl", "--out", "b.csv"], "strength: b.csv: a table is written to"),
        (["strength", "a.jsonl", "--out", "b.jsonl", "--model", "no"], "no reward model 'no'"),
        (["denoise", "a.jsonl", "--out", "b.jsonl"], "denoise: name an --action, or --undo"),
        (["denoise", "a.jsonl", "--out", "b.jsonl", "--action", "x"], "denoise: action: Input"),
        (
            ["denoise", "a.jsonl", "--out", "b.jsonl", "--action", "flip"],
            "denoise: no column 'strength_mean': run `assay strength` on the table first",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "b.jsonl").exists()
