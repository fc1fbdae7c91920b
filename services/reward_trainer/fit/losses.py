"""The loss of a step, put together from the objectives that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.objectives.ranking import ranking_loss
from reward_trainer.fit.recipe import Objective
from reward_trainer.fit.scorer import Scores, StepScorer


class StepLoss(NamedTuple):
    """The loss of a step, and what was measured on the way.

    Attributes:
        total: what is minimised, a scalar.
        measured: numbers for the log.
    """

    total: Tensor
    measured: dict[str, float]


def step_loss(
    out: Scores, step: Mapping[str, Any], objective: Objective, scorer: StepScorer
) -> StepLoss:
    """Weighted loss of a step's pairs over its number of texts, over all views.

    Args:
        out: scores and features of the step's texts.
        step: index of the chosen and the rejected text, weight, margin and smoothing, each [pairs].
        objective: which terms there are.
        scorer: has the prototypes, if the objective needs some.
    """
    chosen, rejected = (out.scores[:, step[side]] for side in ("chosen", "rejected"))
    losses = ranking_loss(chosen.flatten(), rejected.flatten())
    weights = step["weight"].repeat(len(out.scores))
    ranking = (weights * losses).sum() / (len(out.scores) * step["texts"])
    measured = _measured(chosen, rejected, step["margin"])
    return StepLoss(ranking, measured)


@torch.no_grad()
def _measured(chosen: Tensor, rejected: Tensor, margin: Tensor) -> dict[str, float]:
    gap = chosen - rejected
    return {
        "accuracy": _share_right(gap),
        "accuracy_with_margin": _share_right(gap - margin),
        "score": ((chosen + rejected) / 2).mean().item(),
        "gap": gap.mean().item(),
    }


def _share_right(gap: Tensor) -> float:
    return ((gap.sign() + 1) / 2).mean().item()


def dev_sums(out: Scores, step: Mapping[str, Any]) -> Tensor:
    """Number of pairs, and sums of their loss, accuracy, mean score and gap, shape [5], fp64."""
    chosen, rejected = (out.scores[0, step[side]].double() for side in ("chosen", "rejected"))
    gap = chosen - rejected
    rows = [
        torch.ones_like(gap),
        ranking_loss(chosen, rejected),
        (gap.sign() + 1) / 2,
        (chosen + rejected) / 2,
        gap,
    ]
    return torch.stack(rows).sum(dim=1)
