from __future__ import annotations

import io
import json
import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from assay.errors import DataError
from assay.models.loading import load
from assay.models.manifest import read_manifest
from assay.models.reward_model import RewardModel
from assay.registry.store import Store
from reward_trainer.__main__ import app
from reward_trainer.fit.ensemble_training import train_ensemble
from reward_trainer.fit.pairs import Pair, pairs_of
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.fit.run import FitSettings, fit
from reward_trainer.fit.splits import split_by_root
from reward_trainer.preferences.roots import groups_of
from reward_trainer.strength.cross_fit import assign_folds

TINY: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-2, "step_tokens": 400, "train_tokens": 64}
Backbones = Callable[[str], str]


def write(path: Path, count: int = 60, **columns: Any) -> Path:
    rows = [
        {"prompt": f"\n\nHuman: q{i}\n\nAssistant:", "chosen": f"abab{i}", "rejected": f"yzyz{i}"}
        for i in range(count)
    ]
    path.write_text("\n".join(json.dumps(row | columns) for row in rows))
    return path


def run(settings: FitSettings) -> tuple[Path, str]:
    shown = io.StringIO()
    folder = fit(settings, Console(file=shown, width=120))
    assert folder is not None
    return folder, shown.getvalue()


def test_fit_learns_saves_measures_and_calibrates_an_ensemble(
    backbones: Backbones, tmp_path: Path
) -> None:
    changes = {**TINY, "backbone": backbones("llama"), "members": 2, "trunk_layers": 1}
    data = str(write(tmp_path / "toy.jsonl"))
    settings = FitSettings(
        recipe="bt", changes=changes, data=data, out=tmp_path / "store", device="cpu"
    )
    one, shown = run(settings)
    assert Store(str(tmp_path / "store")).reserve(one.parent.name, "by another") == 2
    two, _ = run(settings)
    assert [one.name, two.name] == ["1", "3"]
    assert "toy" in shown
    assert "tensorboard --logdir" in shown
    first, second = load(str(one)), load(str(two))
    metrics = first.card.assay.metrics
    assert metrics["test"][0]["accuracy"]["value"] == 1.0
    assert sum(metrics["pairs"].values()) == 60
    assert metrics["warnings"] == []
    assert first.card.assay.calibration is not None
    assert first.card.assay.calibration.pairs == metrics["pairs"]["dev"]
    texts = [first.encode("q", "abab"), first.encode("q", "yzyz")]
    scores = first.score(texts)
    assert (scores[0] > scores[1]).all()
    np.testing.assert_array_equal(scores, second.score(texts))  # the same seed, the same model
    left = {path.name for path in (tmp_path / "store" / ".fit").glob("*/*")}
    assert left == {"tensorboard"}
    assert list((tmp_path / "store" / ".fit").glob("*/tensorboard/member_1/events*"))


def test_calibration_is_cross_fitted_over_the_train_part(
    backbones: Backbones, tmp_path: Path
) -> None:
    changes = {**TINY, "backbone": backbones("llama"), "members": 2, "calibration_folds": 2}
    data = write(tmp_path / "toy.jsonl")
    settings = FitSettings(recipe="bt", changes=changes, data=str(data), out=tmp_path / "store")
    folder, _ = run(settings)

    calibration = load(str(folder)).card.assay.calibration

    assert calibration is not None
    assert calibration.cross_fitted
    recipe = load_recipe("bt", changes)
    table = datasets.Dataset.from_list([json.loads(line) for line in data.read_text().splitlines()])
    split = split_by_root(pairs_of(table, groups_of(table, "root")), recipe)
    dev = _means(load(str(folder)), split.dev)
    expected: list[float] = []
    fold_of = assign_folds([pair.root for pair in split.train], 2)
    for fold in (0, 1):
        others = [pair for pair, own in zip(split.train, fold_of, strict=True) if own != fold]
        rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in others]
        model = train_ensemble(
            datasets.Dataset.from_list(rows), recipe, workdir=tmp_path / "work", progress=False
        )
        # Trained on half of the pairs: brought to the finished ensemble's scale on the dev part.
        scale = math.hypot(*dev) / math.hypot(*_means(model, split.dev))
        held_out = [pair for pair, own in zip(split.train, fold_of, strict=True) if own == fold]
        expected += [scale * value for value in _means(model, held_out)]
    assert calibration.pairs == len(expected)
    quantiles = np.quantile(expected, np.linspace(0, 1, 101))
    np.testing.assert_allclose(calibration.quantiles, quantiles, atol=1e-4)


def _means(model: RewardModel, pairs: Sequence[Pair]) -> list[float]:
    return [
        float(
            (
                model.score([model.encode(pair.prompt, pair.chosen)])
                - model.score([model.encode(pair.prompt, pair.rejected)])
            ).mean()
        )
        for pair in pairs
    ]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_single_whole_model_loads_with_plain_transformers(
    family: str, backbones: Backbones, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    changes = {**TINY, "backbone": backbones(family), "adapter": "full", "epochs": 1}
    data = str(write(tmp_path / "toy.jsonl"))
    folder, _ = run(FitSettings(recipe="bt", changes=changes, data=data, out=tmp_path / "store"))
    ours = load(str(folder))
    assert ours.members.count == 1
    plain, report = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values())
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        text = ("q", "abab") if family == "bert" else ("qabab",)
        expected = plain(**tokenizer(*text, return_tensors="pt")).logits[0, 0].item()
    assert ours.score([ours.encode("q", "abab")])[0, 0] == pytest.approx(expected, abs=1e-5)


def test_a_version_that_cannot_be_written_keeps_the_training(
    backbones: Backbones, tmp_path: Path
) -> None:
    changes = {**TINY, "backbone": backbones("llama"), "epochs": 1}
    data, store = str(write(tmp_path / "toy.jsonl")), tmp_path / "store"
    settings = FitSettings(recipe="bt", changes=changes, data=data, out=store)
    store.mkdir()
    (store / "bt").write_text("in the way")
    with pytest.raises(DataError, match="its training is done and kept"):
        fit(settings, Console(file=io.StringIO()))
    assert list(store.glob(".fit/*/member_0/outcome.json"))
    (store / "bt").unlink()
    folder, shown = run(settings)
    assert folder.name == "1"
    assert "member_0" not in shown


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_curves_that_cannot_be_written_are_told(
    backbones: Backbones,
    largest_file: Callable[[int], AbstractContextManager[None]],
    tmp_path: Path,
) -> None:
    changes = {**TINY, "backbone": backbones("llama")}
    data = str(write(tmp_path / "toy.jsonl"))
    settings = FitSettings(recipe="bt", changes=changes, data=data, out=tmp_path / "store")
    before = set(threading.enumerate())
    with largest_file(6_000), pytest.raises(DataError, match="free some disk"):
        fit(settings.model_copy(update={"checkpoints": 0}), Console(file=io.StringIO()))
    # TensorBoard's own thread fails with the disk, and may tell of it after the run has.
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


SOURCES = """
name = "toy"
version = 1
model = "toy"
members = 2
epochs = 2
learning_rate = 1e-2
step_tokens = 400
plain_share = 0.5

[[sources]]
name = "pairs"
root = "turn"
credit = "Made up, CC0"

[[sources]]
name = "held"
root = "turn"
use = "evaluate"
"""


def test_a_recipe_with_sources_reads_them_from_a_folder(
    backbones: Backbones, tmp_path: Path
) -> None:
    (tmp_path / "toy.toml").write_text(SOURCES)
    write(tmp_path / "pairs.jsonl", 60)
    write(tmp_path / "held.jsonl", 20)
    settings = FitSettings(
        recipe=str(tmp_path / "toy.toml"),
        changes={"backbone": backbones("llama")},
        data=str(tmp_path),
        out=tmp_path / "store",
    )
    folder, _ = run(settings)
    manifest = read_manifest(folder)
    assert manifest.credits == ["Made up, CC0"]
    assert manifest.metrics["evaluation"][0]["subset"] == "held"
    assert manifest.metrics["evaluation"][0]["pairs"] == 20
    with pytest.raises(DataError, match=r"neither pairs\.jsonl"):
        fit(settings.model_copy(update={"data": str(tmp_path / "nowhere")}))


def test_dev_and_test_keep_the_labels_that_denoising_turned(
    backbones: Backbones, tmp_path: Path
) -> None:
    path = tmp_path / "denoised.jsonl"
    data = str(write(path, denoise_action="flip", denoise_flipped=True))
    changes = {**TINY, "backbone": backbones("llama")}
    folder, _ = run(FitSettings(recipe="bt", changes=changes, data=data, out=tmp_path / "store"))
    # Trained on the labels of the table, measured on those before: all wrong.
    assert read_manifest(folder).metrics["test"][0]["accuracy"]["value"] == 0.0


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fit", *arguments])
    logging.getLogger("reward_trainer").handlers.clear()
    return result.exit_code, result.output


def test_the_command_says_what_to_run_first(tmp_path: Path) -> None:
    data = str(write(tmp_path / "toy.jsonl"))
    code, output = invoke("--recipe", "margin", "--data", data, "--out", str(tmp_path / "store"))
    assert code == 2
    assert f"run `assay strength {data} --cross-fit 5 --out strength.jsonl` first" in output


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--data", "TABLE", "--group", "topic"), "no column 'topic'"),
        (("--data", "TABLE", "--device", "cuda:9"), "choose auto, cpu or cuda"),
        (("--data", "TABLE", "--backbone", "/nowhere"), "/nowhere"),
        (("--data", "TABLE", "--members", "0"), "members"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    flags: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    table = str(write(tmp_path / "toy.jsonl"))
    given = [table if flag == "TABLE" else flag for flag in flags]
    code, output = invoke("--recipe", "bt", "--out", str(tmp_path / "store"), *given)
    assert code == 2, output
    assert output.strip().startswith("assay fit: ")
    assert named in output


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_an_ensemble_of_whole_models_is_centred_when_it_is_loaded_again(
    family: str, backbones: Backbones, tmp_path: Path
) -> None:
    changes = {**TINY, "backbone": backbones(family), "adapter": "full", "members": 2}
    data = write(tmp_path / "toy.jsonl")
    folder, _ = run(
        FitSettings(recipe="bt", changes=changes, data=str(data), out=tmp_path / "store")
    )
    model = load(str(folder))
    calibration = model.card.assay.calibration
    assert calibration is not None
    rows = map(json.loads, data.read_text().splitlines())
    sides = [(row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")]
    texts = [model.encode(*side) for side in sides]
    means = model.score(texts).mean(axis=0)
    # Offsets are set on the dev part alone; without them they would be far from 0 and apart.
    assert abs(means[0] - means[1]) < 0.5 * np.ptp(calibration.offsets)
