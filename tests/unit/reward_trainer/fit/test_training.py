from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
import pytest
import safetensors.torch
from numpy.typing import NDArray
from rich.progress import Progress

from assay.errors import DataError, ScoringError, StartupError
from assay.models.reward_model import RewardModel
from reward_trainer.fit.checkpoints import last_checkpoint, read_outcome
from reward_trainer.fit.ensemble_training import train_ensemble
from reward_trainer.fit.pairs import Pair, pairs_of
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.training import Job, train_members
from reward_trainer.fit.trunk_cache import TrunkCache

MakeRecipe = Callable[..., Recipe]
SILENT = Progress(disable=True)


def train(table: datasets.Dataset, recipe: Recipe, folder: Path, **rest: Any) -> RewardModel:
    return train_ensemble(table, recipe, workdir=folder, device="cpu", progress=False, **rest)


def differences(model: RewardModel, table: datasets.Dataset) -> NDArray[np.float64]:
    chosen, rejected = (
        model.score([model.encode(row["prompt"], row[side]) for row in table.to_list()])
        for side in ("chosen", "rejected")
    )
    found: NDArray[np.float64] = chosen - rejected
    return found


def random_pairs(count: int, seed: int) -> list[Pair]:
    """Labels that follow from nothing."""
    random = Random(seed)
    texts = ["".join(random.choices("abcdefgh", k=8)) for _ in range(2 * count)]
    return [Pair("", i + 1, "", f"q{i}", texts[2 * i], texts[2 * i + 1]) for i in range(count)]


def warned(job: Job) -> list[str]:
    train_members(job, SILENT)
    return [warning.kind for warning in read_outcome(job.member_folder(0)).warnings]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_an_ensemble_learns_its_table_and_its_members_differ(
    adapter: str, make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    model = train(toy_table, make_recipe(members=2, adapter=adapter, learning_rate=5e-3), tmp_path)
    found = differences(model, toy_table)
    assert found.shape == (36, 2)
    assert (found > 0).all()
    assert np.abs(found[:, 0] - found[:, 1]).min() > 1e-6
    assert model.card.assay.calibration is None


def test_the_same_call_trains_nothing_twice_and_other_pairs_are_another_run(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe("bert", epochs=1)
    first = train(toy_table, recipe, tmp_path)
    (weights,) = tmp_path.glob("*/member_0/weights.safetensors")
    written = weights.stat().st_mtime_ns
    again = train(toy_table, recipe, tmp_path)
    assert np.array_equal(differences(first, toy_table), differences(again, toy_table))
    assert weights.stat().st_mtime_ns == written
    train(toy_table.select(range(30)), recipe, tmp_path)
    assert len(list(tmp_path.glob("*/member_0/weights.safetensors"))) == 2


def test_a_cache_serves_several_runs(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    cache = TrunkCache(tmp_path / "cache")
    recipe = make_recipe("bert", trunk_layers=1, epochs=1)
    alone = train(toy_table, recipe, tmp_path / "alone")
    train(toy_table.select(range(20)), recipe, tmp_path / "some", cache=cache)
    together = train(toy_table, recipe, tmp_path / "all", cache=cache)
    assert np.array_equal(differences(alone, toy_table), differences(together, toy_table))


def test_flipped_strength_teaches_the_opposite(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    table = toy_table.add_column("strength_mean", [-1.0] * len(toy_table))
    recipe = make_recipe(name="flip", flip=0.99)
    assert (differences(train(table, recipe, tmp_path), table) < 0).mean() > 0.9


def test_where_both_orders_are_labelled_the_margin_alone_decides(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    turned = toy_table.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    both = datasets.concatenate_datasets([toy_table, turned])
    # softplus(m - d) + softplus(d - m) is least at d = m.
    table = both.add_column("strength_mean", [1.5] * 36 + [-1.5] * 36)
    plain = differences(train(table, make_recipe(), tmp_path), toy_table)
    margin = differences(train(table, make_recipe(name="margin"), tmp_path), toy_table)
    assert abs(plain.mean()) < 0.3
    assert 1.2 < margin.mean() < 1.8


@pytest.mark.parametrize("contrastive", ["simcse", "swav", "simcse-diff", "swav-diff"])
def test_contrastive_trainings_learn_too(
    contrastive: str, make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe(contrastive=contrastive, beta=0.01, trunk_layers=1)
    model = train(toy_table, recipe, tmp_path)
    assert (differences(model, toy_table) > 0).mean() > 0.9


def test_a_loss_that_is_not_finite_names_its_step_and_rows_and_keeps_the_last_good_checkpoint(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    margins = [0.0] * len(toy_table)
    margins[20] = 1e39  # finite, and infinite as the float32 of a score
    table = toy_table.add_column("margin", margins)
    recipe = make_recipe(name="margin", step_tokens=60)
    with pytest.raises(ScoringError, match=r"member_0, step \d+: the loss is inf .*row 21") as told:
        train(table, recipe, tmp_path, checkpoints=1000)
    (folder,) = tmp_path.glob("*/member_0")
    kept = last_checkpoint(folder)
    assert kept is not None
    assert str(kept) in str(told.value)
    weights = safetensors.torch.load_file(kept / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """What a full disk does, for files above a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_cannot_be_written_is_told_and_leaves_nothing_half_written(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe("bert")
    with largest_file(20_000), pytest.raises(DataError, match="cannot be written.*same command"):
        train(toy_table, recipe, tmp_path, checkpoints=3)
    assert not list(tmp_path.glob("*/member_0/checkpoint-*"))


def test_weights_that_cannot_be_written_are_told(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    with largest_file(2_000), pytest.raises(DataError, match=r"weights\.safetensors cannot be"):
        train(toy_table, make_recipe("bert", epochs=1), tmp_path)
    assert not list(tmp_path.glob("*/member_0/*"))


def test_a_checkpoint_without_its_last_file_does_not_count(tmp_path: Path) -> None:
    for step, text in ((5, "{}"), (10, '{"global_'), (20, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert last_checkpoint(tmp_path / "nothing") is None


def test_learning_noise_by_heart_is_warned_of(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(adapter="full", epochs=30, learning_rate=3e-3, step_tokens=500)
    job = Job(recipe, random_pairs(40, 0), random_pairs(40, 1), tmp_path, "cpu")
    assert "overfitting_noise" in warned(job)


def test_a_contrastive_loss_that_dominates_is_warned_of(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe(contrastive="simcse", beta=50.0)
    pairs = pairs_of(toy_table, [""] * len(toy_table))
    assert warned(Job(recipe, pairs, (), tmp_path, "cpu")) == ["contrastive_dominates"]


def test_scores_that_rise_without_the_gap_are_warned_of(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    pairs = random_pairs(40, 0)
    both_ways = pairs + [pair.swapped() for pair in pairs]
    recipe = make_recipe(epochs=20, learning_rate=0.3, step_tokens=500)
    job = Job(recipe, both_ways, random_pairs(40, 1), tmp_path, "cpu")
    assert "score_inflation" in warned(job)


def test_a_sound_training_is_not_warned_of(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    pairs = pairs_of(toy_table, [""] * len(toy_table))
    assert warned(Job(make_recipe(), pairs[:30], pairs[30:], tmp_path, "cpu")) == []


def test_half_precision_trains_where_it_can(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe(precision="bf16", trunk_layers=1, contrastive="simcse", beta=0.01)
    assert (differences(train(toy_table, recipe, tmp_path), toy_table) > 0).mean() > 0.9
    with pytest.raises(StartupError, match="fp16 needs a GPU"):
        train(toy_table, make_recipe(precision="fp16"), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(
    make_recipe: MakeRecipe, toy_table: datasets.Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/\w+ cannot be written: Not a directory"):
        train(toy_table, make_recipe(), tmp_path / "file")
