"""One update of all members, and what was seen in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from assay.errors import ScoringError
from assay.objectives import normalised_separation, ranking_loss, separation
from reward_trainer.evaluate.statistics import Array
from reward_trainer.online.batches import Batch
from reward_trainer.online.drift import Drift, differences, drift_by_policy
from reward_trainer.online.ensemble import LearningEnsemble, Rows
from reward_trainer.online.groups import Group
from reward_trainer.online.rules import Measured, update


class StepRecord(BaseModel):
    """An update, measured at the weights before it; means over members.

    Attributes:
        loss: ranking loss of the pairs, where the rule takes it.
        separation: J, on the scale that does not depend on k.
        difference: mean absolute difference of the scores within groups.
        spread: standard deviation of all scores of the groups.
        loss_gradient: norm of the ranking loss's gradient.
        separation_gradient: norm of J's gradient; 0 under `vanilla`.
        drift: signals of each policy in the batch.
    """

    model_config = ConfigDict(frozen=True)

    loss: float
    separation: float
    difference: float
    spread: float
    loss_gradient: float
    separation_gradient: float
    drift: dict[str, Drift]


def take_step(
    ensemble: LearningEnsemble, pairs: Batch, groups: Batch, origin: Sequence[Group]
) -> StepRecord:
    """Update every member once by the rule of its learner.

    Args:
        ensemble: changed in place.
        pairs: stored preferences.
        groups: samples of the current policies.
        origin: where the groups come from, one each.

    Raises:
        ScoringError: a score, loss or gradient is not finite. Members before that one have stepped.
    """
    pair_rows, group_rows = ensemble.prepare(pairs.texts), ensemble.prepare(groups.texts)
    measured, scores = [], []
    for index in range(ensemble.count):
        objectives = Objectives(ensemble, index, pairs, pair_rows, groups, group_rows)
        learner = ensemble.learners[index]
        measured.append(update(learner, objectives.loss, objectives.separation))
        scores.append(objectives.first_scores)
    ensemble.learn(False)
    return _record(measured, torch.stack(scores, dim=1), groups, origin)


class Objectives:
    """L and J of one member, at its weights as they are when asked."""

    def __init__(
        self,
        ensemble: LearningEnsemble,
        index: int,
        pairs: Batch,
        pair_rows: Sequence[Rows],
        groups: Batch,
        group_rows: Sequence[Rows],
    ) -> None:
        self._ensemble, self._index = ensemble, index
        self._pairs, self._pair_rows = torch.tensor(pairs.items), pair_rows
        self._groups, self._group_rows = _by_size(groups), group_rows
        self.first_scores: Tensor = torch.empty(0)

    def loss(self) -> Tensor:
        self._ensemble.learn(True)
        scores = self._ensemble.scores(self._index, self._pair_rows)
        chosen, rejected = scores[self._pairs].unbind(dim=1)
        return ranking_loss(chosen, rejected, reduction="mean")

    def separation(self) -> Tensor:
        """Mean over groups of J, each with its own k; dropout would read as difference."""
        self._ensemble.learn(False)
        scores = self._ensemble.scores(self._index, self._group_rows)
        if not scores.isfinite().all():  # J itself may be finite where they are not
            raise ScoringError("a sample has a score that is not finite: no step was taken")
        if not len(self.first_scores):
            self.first_scores = scores.detach().cpu()
        return torch.cat([separation(scores[rows]) for rows in self._groups]).mean()


def _by_size(groups: Batch) -> list[Tensor]:
    """Rows of the groups of each k, [groups, k]."""
    sizes = sorted({len(rows) for rows in groups.items})
    return [torch.tensor([rows for rows in groups.items if len(rows) == k]) for k in sizes]


def _record(
    measured: Sequence[Measured], scores: Tensor, groups: Batch, origin: Sequence[Group]
) -> StepRecord:
    """Scores have the shape [texts, members]."""
    table: Array = scores.double().numpy()
    of_groups = [table[rows] for rows in groups.items]
    separated = [normalised_separation(scores[rows].mT.flatten(0, 1)) for rows in _by_size(groups)]
    return StepRecord(
        loss=_mean([one.loss for one in measured]),
        separation=torch.cat(separated).mean().item(),
        difference=_mean([np.abs(differences(own)).mean() for own in of_groups]),
        spread=float(table.std(axis=0).mean()),
        loss_gradient=_mean([one.loss_gradient for one in measured]),
        separation_gradient=_mean([one.separation_gradient for one in measured]),
        drift=drift_by_policy(origin, of_groups),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
