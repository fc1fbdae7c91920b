from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from assay.errors import DataError
from reward_trainer.fit.ensemble import Ensemble
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.trunk_cache import TrunkCache

MakeRecipe = Callable[..., Recipe]


def filled(cache: TrunkCache, recipe: Recipe) -> list[torch.Tensor]:
    ensemble = Ensemble(recipe, "cpu")
    texts = [ensemble.encoder(64).encode("q", "ab" * n) for n in (1, 5, 9)]
    member = ensemble.fresh(0)
    assert member.trunk is not None
    cache.fill("t", texts, member.pooler, member.trunk, Progress(disable=True))
    return [cache["t", text.digest] for text in texts]


def test_files_hold_what_memory_does(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("bert", trunk_layers=1)
    in_memory = filled(TrunkCache(tmp_path / "unused"), recipe)
    cache = TrunkCache(tmp_path / "used", memory_bytes=0)
    on_disk = filled(cache, recipe)
    assert all(torch.equal(a, b) for a, b in zip(in_memory, on_disk, strict=True))
    assert not (tmp_path / "unused").exists()
    assert len(list((tmp_path / "used").iterdir())) == 1
    cache.close()
    assert not list((tmp_path / "used").iterdir())


def test_a_text_runs_through_its_trunk_once(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    cache = TrunkCache(tmp_path)
    recipe = make_recipe("bert", trunk_layers=1)
    first, second = filled(cache, recipe), filled(cache, recipe)
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(first, second, strict=True))


def test_a_folder_that_takes_no_files_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no room for"):
        filled(TrunkCache(tmp_path / "file", memory_bytes=0), make_recipe("bert", trunk_layers=1))
