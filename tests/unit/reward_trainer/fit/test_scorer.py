from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from reward_trainer.fit.ensemble import Ensemble
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.scorer import StepScorer, model_weights
from reward_trainer.fit.steps import EncodedPairs, StepCollator, encode_pairs, training_steps
from reward_trainer.fit.trunk_cache import TrunkCache

MakeRecipe = Callable[..., Recipe]
LENGTHS = [(3, 40), (40, 9), (9, 3), (25, 3)]


def encoded(ensemble: Ensemble) -> EncodedPairs:
    """Four pairs among four texts of one prompt."""
    pairs = [Pair("s", i, "", "q", "a" * c, "a" * r) for i, (c, r) in enumerate(LENGTHS)]
    return encode_pairs(pairs, ensemble.encoder(64))


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_shared_texts_are_scored_once_and_as_alone(family: str, make_recipe: MakeRecipe) -> None:
    ensemble = Ensemble(make_recipe(family, adapter="full"), "cpu")
    data = encoded(ensemble)
    assert len(data.texts) == 4
    member = ensemble.fresh(0)
    step = training_steps(data, {}, 0.0, 10_000, 0)[0]
    batch = StepCollator(member.pooler.collate)([step])
    assert batch["texts"] == 4
    scorer = StepScorer(member).eval()
    with torch.no_grad():
        out = scorer(batch["batches"], batch["texts"], 2)
        alone = [member.pooler.scores(member.pooler.collate([text])) for text in step["texts"]]
        by_head = member.head(out.features[0])[:, 0]
    torch.testing.assert_close(out.scores[0], torch.cat(alone), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.scores[0], out.scores[1])
    torch.testing.assert_close(out.scores[0], by_head)
    order = [f"s row {i}" for i in range(4)]
    chosen = dict(zip(step["rows"], out.scores[0][step["chosen"]], strict=True))
    expected = [alone[step["texts"].index(data.texts[data.sides[i][0]])] for i in range(4)]
    torch.testing.assert_close(
        torch.stack([chosen[name] for name in order]), torch.cat(expected), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("family", ["bert", "llama", "gemma2"])
def test_a_cached_trunk_gives_the_same_scores(
    family: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    ensemble = Ensemble(make_recipe(family, adapter="full", trunk_layers=1), "cpu")
    data = encoded(ensemble)
    member = ensemble.fresh(0)
    assert member.trunk is not None
    cache = TrunkCache(tmp_path)
    cache.fill("t", data.texts, member.pooler, member.trunk, Progress(disable=True))
    step = training_steps(data, {}, 0.0, 10_000, 0)[0]
    cached = StepCollator(member.pooler.collate, lambda text: cache["t", text.digest])([step])
    plain = StepCollator(member.pooler.collate)([step])
    scorer = StepScorer(member).eval()
    with torch.no_grad():
        expected = scorer(plain["batches"], 4).scores
        found = scorer(cached["batches"], 4).scores
    # The cache is in fp16.
    torch.testing.assert_close(found, expected, atol=expected.std().item() / 20, rtol=0)


def test_only_what_was_trained_is_kept(make_recipe: MakeRecipe) -> None:
    member = Ensemble(make_recipe("bert", trunk_layers=1), "cpu").fresh(0)
    scorer = StepScorer(member, prototypes=5)
    assert scorer.prototypes is not None
    assert scorer.prototypes.shape == (5, 32)
    weights = model_weights(scorer.state_dict(), scorer)
    trained = {n for n, weight in member.model.named_parameters() if weight.requires_grad}
    assert weights.keys() == trained
