from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from assay.errors import ScoringError
from reward_trainer.fit.ensemble import Ensemble
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.scorer import StepScorer
from reward_trainer.fit.steps import StepCollator, encode_pairs, training_steps
from reward_trainer.fit.trainer import RankingTrainer


def make_trainer(recipe: Recipe, folder: Path) -> tuple[RankingTrainer, StepScorer]:
    ensemble = Ensemble(recipe, "cpu")
    pairs = [Pair("s", i, "", f"q{i}", "ab", "yz") for i in range(1, 7)]
    data = encode_pairs(pairs, ensemble.encoder(64))
    member = ensemble.fresh(0)
    scorer = StepScorer(member)
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to="none", logging_steps=1, disable_tqdm=True,
        per_device_train_batch_size=1, num_train_epochs=1, remove_unused_columns=False,
        save_strategy="no",
    )  # fmt: skip
    steps = training_steps(data, {}, 0.0, 20, 0)
    collator = StepCollator(member.pooler.collate)
    trainer = RankingTrainer(
        "member_0", recipe.objective, scorer, arguments, steps, None, data_collator=collator
    )
    return trainer, scorer


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer, scorer = make_trainer(make_recipe("bert"), tmp_path)
    trained = [weight for weight in scorer.parameters() if weight.requires_grad]
    trained[0].register_hook(lambda g: g * float("nan"))  # type: ignore[no-untyped-call]
    before = [weight.detach().clone() for weight in trained]
    with pytest.raises(ScoringError, match=r"member_0, step 1: a gradient .*s row \d.*none yet"):
        trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, trained, strict=True))


def test_the_log_has_means_over_its_steps(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer, _ = make_trainer(make_recipe("bert"), tmp_path)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == len(trainer.get_train_dataloader())
    expected = {"loss", "accuracy", "accuracy_with_margin", "score", "gap"}
    assert all(expected <= row.keys() for row in rows)
