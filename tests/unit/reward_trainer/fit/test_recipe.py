from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import DataError
from reward_trainer.fit.recipe import RECIPES, load_recipe

NAMES = ["bt", "default", "flip", "flip_margin", "margin", "soft_margin"]


def test_the_recipes_are_those_that_are_advertised() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.toml")) == NAMES
    assert [load_recipe(name).name for name in NAMES] == NAMES


def test_recipes_differ_in_their_objective_alone() -> None:
    plain = load_recipe("bt").model_dump(exclude={"name", "model", "objective"})
    for name in ("flip", "flip_margin", "margin", "soft_margin"):
        recipe = load_recipe(name)
        assert recipe.model_dump(exclude={"name", "model", "objective"}) == plain
        assert recipe.objective.denoises
    assert not load_recipe("bt").objective.denoises


def test_changes_reach_the_recipe_and_its_objective() -> None:
    changes = {"members": 7, "contrastive": "swav", "epochs": None}
    recipe = load_recipe("flip", changes)
    assert (recipe.members, recipe.epochs) == (7, load_recipe("flip").epochs)
    assert (recipe.objective.contrastive, recipe.objective.flip) == ("swav", 0.1)


def test_another_backbone_comes_without_what_belongs_to_the_recipes_own() -> None:
    own, other = load_recipe("default"), load_recipe("default", {"backbone": "org/model"})
    assert (own.pool, own.layers, own.trunk_layers) == ("mean", 4, 3)
    assert (other.pool, other.layers, other.trunk_layers) == ("model", None, 0)
    assert (own.max_tokens, other.max_tokens) == (512, 2048)
    whole = load_recipe("bt", {"adapter": "full", "trunk_layers": 2})
    assert (whole.pool, whole.trunk_layers, whole.learning_rate) == ("model", 2, 2e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"members": 0}, "members"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"contrastive": "mocov3"}, "objective.contrastive"),
        ({"model": "../elsewhere"}, "model"),
        ({"adapter": "full", "pool": "mean"}, "pool = mean needs adapters"),
        ({"contrastive": "simcse", "dropout": 0.0}, "dropout above 0"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_a_wrong_change_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(DataError, match=named):
        load_recipe("bt", changes)


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is bt, default"):
        load_recipe("nothing")
    (tmp_path / "bad.toml").write_text("members = 1")
    with pytest.raises(DataError, match=r"bad\.toml"):
        load_recipe(str(tmp_path / "bad.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"bad\.toml"):
        load_recipe(str(tmp_path / "bad.toml"))
