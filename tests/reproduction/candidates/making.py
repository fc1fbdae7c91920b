"""Bad candidates: weights of the embedded model that were broken or trained wrongly on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from assay.models.loading import load
from assay.models.members import AdapterMembers
from assay.models.options import LoadOptions
from assay.models.reward_model import RewardModel
from reward_trainer.fit.pairs import Pair
from reward_trainer.gate.measuring import Measured
from reward_trainer.online.batches import group_batch, pair_batch
from reward_trainer.online.ensemble import LearningEnsemble
from reward_trainer.online.rules import RuleOptions, update
from reward_trainer.online.step import Objectives

HEADS, ADAPTERS = "modules_to_save", "lora_"
_TOKENS, _RATE, _BATCH = 128, 1e-3, 16


def embedded() -> RewardModel:
    return load("assay-minilm", LoadOptions(device="cpu"))


@contextmanager
def changeable(model: RewardModel, kind: str) -> Iterator[list[Tensor]]:
    """Weights of a kind, which may be changed and are put back."""
    assert isinstance(model.members, AdapterMembers)
    named = model.members.model.named_parameters()
    weights = [w.data for name, w in named if kind in name and not name.endswith("bias")]
    before = [weight.clone() for weight in weights]
    try:
        yield weights
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)


def randomise(weights: Sequence[Tensor], seed: int) -> None:
    """Random numbers of the same size in their place."""
    make = torch.Generator().manual_seed(seed)
    for weight in weights:
        random = torch.randn(weight.shape, generator=make)
        weight.copy_(random * weight.norm() / random.norm())


def trained(pairs: Sequence[Pair], steps: int) -> RewardModel:
    """The embedded model after steps of vanilla continuation."""
    model, random = embedded(), Random(0)
    ensemble = LearningEnsemble(model.members, RuleOptions(learning_rate=_RATE), dropout=0.1)
    encoder = replace(model.encoder, max_tokens=_TOKENS)
    torch.manual_seed(0)
    for _ in range(steps):
        batch = pair_batch(random.sample(list(pairs), _BATCH), encoder.encode)
        rows, none = ensemble.prepare(batch.texts), group_batch([], encoder.encode)
        for index, learner in enumerate(ensemble.learners):
            objectives = Objectives(ensemble, index, batch, rows, none, [])
            update(learner, objectives.loss, lambda: torch.zeros(()))
    ensemble.learn(False)
    return model


def by_length(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the longer text as the chosen one."""
    return [p if p.extra_length > 0 else p.swapped() for p in pairs if p.extra_length]


def recalibrated(version: Measured, like: Measured) -> Measured:
    """Scores with the mean and std of another version's: what is left is their order."""
    mean, std = version.scores.mean(axis=0), version.scores.std(axis=0)
    standard = (version.scores - mean) / std
    scores = standard * like.scores.std(axis=0) + like.scores.mean(axis=0)
    return replace(version, scores=scores)
