"""The embedded model, spoilt on purpose and measured, without a second run of its frozen layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from assay.models.loading import load
from assay.models.members import AdapterMembers
from assay.models.options import LoadOptions
from reward_trainer.fit.pairs import Pair
from reward_trainer.gate.data import GateData
from reward_trainer.gate.layout import Layout
from reward_trainer.gate.measuring import Measured
from reward_trainer.online.batches import group_batch, pair_batch
from reward_trainer.online.ensemble import LearningEnsemble
from reward_trainer.online.rules import RuleOptions, update
from reward_trainer.online.step import Objectives

HEADS, ADAPTERS = "modules_to_save", "lora_"
_TOKENS, _RATE, _BATCH = 128, 1e-3, 16


class Subject:
    """`assay-minilm` as the gate sees it on some data, inputs cut to 128 tokens.

    Args:
        data: what it is measured on.
    """

    def __init__(self, data: GateData) -> None:
        model = load("assay-minilm", LoadOptions(device="cpu"))
        assert isinstance(model.members, AdapterMembers)
        self._members, self._name = model.members, model.card.id
        self._encoder = replace(model.encoder, max_tokens=_TOKENS)
        options = RuleOptions(learning_rate=_RATE)
        self._ensemble = LearningEnsemble(model.members, options, dropout=0.1)
        self._layout = Layout.of(data)
        texts = [self._encoder.encode(t.prompt, t.completion) for t in self._layout.texts]
        self._rows = self._ensemble.prepare(texts)

    @torch.no_grad()
    def measured(self) -> Measured:
        """Its scores as it is, on the data."""
        self._ensemble.learn(False)
        columns = [self._ensemble.scores(i, self._rows) for i in range(self._ensemble.count)]
        scores = torch.stack(columns, dim=1).double().numpy()
        return Measured(self._name, self._layout, scores, calibrated=True)

    @contextmanager
    def changing(self, *kinds: str) -> Iterator[list[Tensor]]:
        """Weights of some kinds, which may be changed and are put back."""
        named = self._members.model.named_parameters()
        weights = [
            weight.data
            for name, weight in named
            if any(kind in name for kind in kinds) and not name.endswith("bias")
        ]
        before = [weight.clone() for weight in weights]
        try:
            yield weights
        finally:
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)

    def train(self, pairs: Sequence[Pair], steps: int) -> None:
        """Steps of vanilla continuation."""
        random = Random(0)
        torch.manual_seed(0)
        none = group_batch([], self._encoder.encode)
        for _ in range(steps):
            batch = pair_batch(random.sample(list(pairs), _BATCH), self._encoder.encode)
            rows = self._ensemble.prepare(batch.texts)
            for index, learner in enumerate(self._ensemble.learners):
                objectives = Objectives(self._ensemble, index, batch, rows, none, [])
                update(learner, objectives.loss, lambda: torch.zeros(()))


def randomise(weights: Sequence[Tensor]) -> None:
    """Random numbers of the same size in their place."""
    make = torch.Generator().manual_seed(0)
    for weight in weights:
        random = torch.randn(weight.shape, generator=make)
        weight.copy_(random * weight.norm() / random.norm())


def by_length(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the longer text as the chosen one."""
    return [p if p.extra_length > 0 else p.swapped() for p in pairs if p.extra_length]


def recalibrated(version: Measured, like: Measured) -> Measured:
    """Scores with the mean and std of another version's: what is left is their order."""
    mean, std = version.scores.mean(axis=0), version.scores.std(axis=0)
    standard = (version.scores - mean) / std
    scores = standard * like.scores.std(axis=0) + like.scores.mean(axis=0)
    return replace(version, scores=np.asarray(scores))
