"""Base models, and the steps that a rule takes from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

import datasets
import torch
from torch import Tensor

from assay.models.members import AdapterMembers
from assay.models.scorer import EncodedInput
from assay.objectives import ranking_loss, separation
from reproduction.metarm.data import Fold, Group
from reproduction.metarm.scales import Scale, Variant
from reproduction.training import Training
from reward_trainer.fit.ensemble import Ensemble, load_weights
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.progress import bars
from reward_trainer.fit.scorer import StepScorer
from reward_trainer.fit.steps import StepCollator
from reward_trainer.fit.trunk_cache import TrunkCache
from reward_trainer.online.rules import Learner, update
from reward_trainer.preferences.formats import COLUMNS

Item = TypeVar("Item")


@dataclass(frozen=True)
class Bench:
    """Where models are made.

    Attributes:
        scale: sizes.
        folder: keeps base models, so that they are trained once.
        device: `auto`, `cpu` or `cuda`.
        trunk: frozen layers' output, of all texts.
    """

    scale: Scale
    folder: Path
    device: str
    trunk: TrunkCache


class Model:
    """One model whose upper layers are trained, over cached output of the lower ones."""

    def __init__(self, bench: Bench, fold: Fold, seed: int) -> None:
        recipe = bench.scale.recipe.model_copy(update={"members": 1, "seed": seed})
        rows = [pair_row(pair) for pair in fold.train]
        training = Training(bench.folder / "base", bench.device, bench.trunk)
        trained = training.models(datasets.Dataset.from_list(rows), recipe).members
        assert isinstance(trained, AdapterMembers)
        ensemble = Ensemble(recipe, bench.device)
        self._member = ensemble.fresh(0)
        weights = dict(trained.model.named_parameters())
        own = [name for name, p in self._member.model.named_parameters() if p.requires_grad]
        load_weights(self._member.model, {name: weights[name] for name in own})
        self._encoder, self._trunk = ensemble.encoder(recipe.train_tokens), bench.trunk
        self._trunk_id = ensemble.trunk_id
        parameters = self._member.model.parameters()
        self._weights = [weight for weight in parameters if weight.requires_grad]
        self._start = [weight.detach().clone() for weight in self._weights]
        self._scorer = StepScorer(self._member)
        collate = self._member.pooler.collate
        self._collate = StepCollator(collate, lambda t: self._trunk[self._trunk_id, t.digest])

    def learner(self, bench: Bench, variant: Variant) -> Learner:
        """The trained weights with the optimizers of a rule."""
        assert variant.rule is not None
        return Learner(self._weights, bench.scale.rule_options(variant.rule))

    @torch.no_grad()
    def reset(self) -> None:
        """Put the base model's weights back."""
        for weight, start in zip(self._weights, self._start, strict=True):
            weight.copy_(start)

    def scores(self, prompts: Sequence[tuple[str, str]], *, dropout: bool = False) -> Tensor:
        """Scores of (prompt, completion), shape [texts]."""
        texts = [self._encoder.encode(prompt, text) for prompt, text in prompts]
        distinct = list({text.digest: text for text in texts}.values())
        rows = {text.digest: row for row, text in enumerate(distinct)}
        self._scorer.train(dropout)
        step = self._collate([{"texts": self._prepared(distinct)}])
        found: Tensor = self._scorer(step["batches"], step["texts"]).scores[0]
        return found[[rows[text.digest] for text in texts]]

    def _prepared(self, texts: list[EncodedInput]) -> list[EncodedInput]:
        trunk = self._member.trunk
        assert trunk is not None
        with bars(False) as progress:
            self._trunk.fill(self._trunk_id, texts, self._member.pooler, trunk, progress)
        return texts


def pair_row(pair: Pair) -> dict[str, object]:
    return dict(zip(COLUMNS, (pair.prompt, pair.chosen, pair.rejected), strict=True))


def adapt(model: Model, bench: Bench, fold: Fold, variant: Variant, seed: int) -> None:
    """Take the scale's steps by a rule; batches depend on the seed alone, not on the rule."""
    if variant.rule is None:
        return
    scale, learner = bench.scale, model.learner(bench, variant)
    pairs = _batches(fold.train, scale.batch_pairs, Random(f"pairs:{seed}"))
    groups = _phases(fold.meta[variant.meta or "policy"], scale, seed)
    torch.manual_seed(seed)  # of the dropout
    for batch, some in zip(islice(pairs, scale.steps), groups, strict=True):
        apart = _nothing if variant.meta is None else partial(_separation, model, some)
        update(learner, partial(_loss, model, batch), apart)


def _nothing() -> Tensor:
    return torch.zeros(())


def _separation(model: Model, groups: Sequence[Group]) -> Tensor:
    return separation(group_scores(model, groups)).mean()


def group_scores(model: Model, groups: Sequence[Group]) -> Tensor:
    """Scores of groups of one size k, shape [groups, k], without dropout."""
    texts = [(group.prompt, text) for group in groups for text in group.completions]
    return model.scores(texts).view(len(groups), -1)


def _loss(model: Model, pairs: Sequence[Pair]) -> Tensor:
    texts = [(str(p.prompt), str(side)) for p in pairs for side in (p.chosen, p.rejected)]
    chosen, rejected = model.scores(texts, dropout=True).view(-1, 2).unbind(dim=1)
    return ranking_loss(chosen, rejected, reduction="mean")


def _phases(phases: Sequence[Sequence[Group]], scale: Scale, seed: int) -> Iterator[list[Group]]:
    """As many batches as there are steps, an equal share of each phase."""
    random = Random(f"groups:{seed}")
    for index, phase in enumerate(phases):
        start, end = (scale.steps * at // len(phases) for at in (index, index + 1))
        yield from islice(_batches(phase, scale.batch_groups, random), end - start)


def _batches(items: Sequence[Item], size: int, random: Random) -> Iterator[list[Item]]:
    """Batches without end; every item once before any comes again."""
    rest: list[Item] = []
    while True:
        while len(rest) < size:
            rest += random.sample(items, len(items))
        batch, rest = rest[:size], rest[size:]
        yield batch
