"""`assay fit` in real processes: killed and resumed, under torchrun, and in Ray Train's workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from assay.models.loading import load
from tiny_models import save_family

pytestmark = pytest.mark.integration
PYTHON = ("env", "OMP_NUM_THREADS=1", sys.executable)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A training of about a hundred steps on a tiny model."""
    backbone = save_family("llama", tmp_path / "backbone")
    rows = [
        {
            "prompt": f"\n\nHuman: q{i % 40}\n\nAssistant:",
            "chosen": f"abab{i}",
            "rejected": f"yzyz{i}",
        }
        for i in range(160)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ["fit", "--recipe", "bt", "--device", "cpu", "--learning-rate", "0.01"]
    flags += ["--backbone", str(backbone), "--data", str(tmp_path / "pairs.jsonl")]
    return [*flags, "--step-tokens", "400"]


def run(*arguments: str, launcher: tuple[str, ...] = PYTHON) -> str:
    command = [*launcher, "-m", "reward_trainer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def weights(folder: str) -> dict[str, torch.Tensor]:
    files = sorted(Path(folder).rglob("*.safetensors"))
    return {
        f"{path.parent.name}:{name}": tensor
        for path in files
        for name, tensor in safetensors.torch.load_file(path).items()
    }


def kill_after_a_checkpoint(command: list[str], store: Path) -> None:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        # The second member is under way: one is done, and the other has something to go on from.
        while not list(store.glob(".fit/*/member_1/checkpoint-*/trainer_state.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    arguments: list[str], tmp_path: Path
) -> None:
    flags = [*arguments, "--members", "2", "--epochs", "6", "--checkpoints", "10"]
    whole = run(*flags, "--out", str(tmp_path / "whole"))
    store = tmp_path / "killed"
    command = [*PYTHON, "-m", "reward_trainer", *flags, "--out", str(store)]
    kill_after_a_checkpoint(command, store)
    assert not (store / "bt").exists()
    (work,) = store.glob(".fit/*")
    assert (work / "member_0" / "outcome.json").exists()
    resumed = run(*flags, "--out", str(store))
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not list(work.glob("member_*"))


def test_two_processes_under_torchrun_train_one_model(arguments: list[str], tmp_path: Path) -> None:
    launcher = (*PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    flags = ["--adapter", "full", "--learning-rate", "0.001", "--epochs", "6"]
    flags += ["--out", str(tmp_path / "store")]
    folder = run(*arguments, *flags, launcher=launcher)
    assert Path(folder).name == "1"
    assert [path.name for path in (tmp_path / "store" / "bt").iterdir()] == ["1"]
    assert_ranks_right(folder)


def test_ray_workers_train_one_model(arguments: list[str], tmp_path: Path) -> None:
    flags = ["--epochs", "6", "--out", str(tmp_path / "store"), "--ray-workers", "2"]
    assert_ranks_right(run(*arguments, *flags))


def assert_ranks_right(folder: str) -> None:
    model = load(folder)
    scores = model.score([model.encode("q1", text) for text in ("abab1", "yzyz1")])
    assert scores[0, 0] > scores[1, 0] + 0.5
    assert model.card.assay.metrics["test"][0]["accuracy"]["value"] == 1.0
