from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from assay.errors import ModelLoadError, StartupError
from reward_trainer.fit.ensemble import Ensemble, Member, load_weights, resolve_device
from reward_trainer.fit.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
FAMILIES = ["bert", "llama", "gpt2", "gemma2", "deberta"]


def scores(member: Member, ensemble: Ensemble) -> Tensor:
    encoder = ensemble.encoder(64)
    batch = member.pooler.collate([encoder.encode("q", text) for text in ("ab", "a longer one")])
    with torch.no_grad():
        return member.pooler.scores(batch)


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_makes_two_views_in_training_and_none_in_use(
    family: str, adapter: str, make_recipe: MakeRecipe
) -> None:
    ensemble = Ensemble(make_recipe(family, adapter=adapter, dropout=0.05), "cpu")
    member = ensemble.fresh(0)
    member.model.train()
    assert not torch.equal(scores(member, ensemble), scores(member, ensemble))
    member.model.eval()
    assert torch.equal(scores(member, ensemble), scores(member, ensemble))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_without_dropout_two_passes_are_equal(family: str, make_recipe: MakeRecipe) -> None:
    ensemble = Ensemble(make_recipe(family, dropout=0.0), "cpu")
    member = ensemble.fresh(0)
    member.model.train()
    assert torch.equal(scores(member, ensemble), scores(member, ensemble))


def trained(member: Member) -> set[str]:
    return {name for name, weight in member.model.named_parameters() if weight.requires_grad}


def any_of(names: Iterable[str], part: str) -> bool:
    return any(part in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trunk_is_frozen_and_all_above_it_is_trained(
    family: str, make_recipe: MakeRecipe
) -> None:
    first, second = (".h.0.", ".h.1.") if family == "gpt2" else ("layer", "layer")
    if family != "gpt2":
        plural = "s" if family in ("llama", "gemma2") else ""
        first, second = f"{first}{plural}.0.", f"{second}{plural}.1."
    member = Ensemble(make_recipe(family, adapter="full", trunk_layers=1), "cpu").fresh(0)
    names = trained(member)
    assert any_of(names, second)
    assert not any_of(names, first)
    assert not any_of(names, "emb")
    head = next(n for n, m in member.model.named_modules() if m is member.head)
    assert f"{head}.weight" in names
    whole = trained(Ensemble(make_recipe(family, adapter="full"), "cpu").fresh(0))
    assert any_of(whole, first)
    adapters = trained(Ensemble(make_recipe(family, trunk_layers=1), "cpu").fresh(0))
    assert all("lora" in name or "modules_to_save" in name for name in adapters)
    assert any_of(adapters, second)
    assert not any_of(adapters, first)


def test_a_member_depends_on_its_seed_alone(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("bert", members=3)
    ensemble = Ensemble(recipe, "cpu")
    later, again = ensemble.fresh(2), Ensemble(recipe, "cpu").fresh(2)
    assert torch.equal(scores(later, ensemble), scores(again, ensemble))
    assert not torch.equal(scores(later, ensemble), scores(ensemble.fresh(1), ensemble))


def test_too_large_a_trunk_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ModelLoadError, match="has 2 layers, and trunk_layers = 2 leaves none"):
        Ensemble(make_recipe("bert", trunk_layers=2), "cpu").fresh(0)


def test_weights_of_another_model_are_refused() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ModelLoadError, match="weight is no weight of this Linear"):
        load_weights(model, {"weight": torch.zeros(3, 3)})
    with pytest.raises(ModelLoadError, match="other"):
        load_weights(model, {"other": torch.zeros(1)})


@pytest.mark.parametrize("name", ["cuda:7", "tpu"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(StartupError, match="choose auto, cpu or cuda"):
        resolve_device(name)
