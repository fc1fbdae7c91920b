"""The loss of a step, put together from the objectives that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.objectives import (
    CONTRASTIVE,
    ContrastiveOptions,
    batch_mean,
    batch_threshold,
    difference_items,
    ranking_loss,
    simcse_loss,
    swav_loss,
)
from reward_trainer.fit.recipe import Objective
from reward_trainer.fit.scorer import Scores

_BATCH_MARGINS = {"batch_mean": batch_mean, "batch_threshold": batch_threshold}


class StepLoss(NamedTuple):
    """The loss of a step, and what was measured on the way.

    Attributes:
        total: what is minimised, a scalar.
        measured: scalars for the log, without gradients and still on the device.
    """

    total: Tensor
    measured: dict[str, Tensor]


def contrastive_options(objective: Objective) -> ContrastiveOptions | None:
    """The contrastive term of an objective, with the paper's numbers where it names none."""
    if objective.contrastive == "none":
        return None
    own = {"beta": objective.beta, "tau": objective.tau, "prototypes": objective.prototypes}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    return replace(CONTRASTIVE[objective.contrastive], **given)


def step_loss(
    out: Scores,
    step: Mapping[str, Any],
    objective: Objective,
    head: Tensor,
    prototypes: Tensor | None = None,
) -> StepLoss:
    """Weighted loss of a step's pairs over its number of texts, on all views, and what is added.

    Args:
        out: scores and features of the step's texts.
        step: index of the chosen and the rejected text, weight, margin and smoothing, each [pairs].
        objective: which terms there are.
        head: weight of the reward head, shape [1, width].
        prototypes: of SwAV.
    """
    chosen, rejected = (out.scores[:, step[side]] for side in ("chosen", "rejected"))
    margin = step["margin"].expand_as(chosen).flatten()
    if objective.batch_margin != "none":
        differences = (chosen - rejected).detach().flatten()
        margin = margin + _BATCH_MARGINS[objective.batch_margin](
            differences, cap=objective.batch_margin_cap
        )
    losses = ranking_loss(
        chosen.flatten(),
        rejected.flatten(),
        margin=margin,
        smoothing=step["smoothing"].expand_as(chosen).flatten(),
        centring=objective.centring,
    )
    views, texts = out.scores.shape
    weights = step["weight"].expand_as(chosen).flatten()
    ranking = (weights * losses).sum() / (views * texts)
    measured = _measured(chosen, rejected, margin.view_as(chosen))
    options = contrastive_options(objective)
    if options is None:
        return StepLoss(ranking, measured)
    added = options.beta * _contrastive(out.features, step, options, prototypes)
    return StepLoss(ranking + added, measured | _pulls(ranking, added, out, head))


def _contrastive(
    features: Tensor,
    step: Mapping[str, Any],
    options: ContrastiveOptions,
    prototypes: Tensor | None,
) -> Tensor:
    """The term over the step's distinct texts, or over its pairs' differences.

    A text that several pairs share is one item: as two it would be its own negative.
    """
    first, second = features
    if options.items == "differences":
        first, second = (
            difference_items(view[step["chosen"]], view[step["rejected"]]) for view in features
        )
    if prototypes is None:
        return simcse_loss(first, second, tau=options.tau)
    return swav_loss(first, second, prototypes, tau=options.tau)


def _pulls(ranking: Tensor, added: Tensor, out: Scores, head: Tensor) -> dict[str, Tensor]:
    """Both losses and the norms of their gradients by the features that they share.

    The head is linear, so the ranking loss's gradient by the features is its gradient by the
    scores times the head's weight.
    """
    (by_scores,) = torch.autograd.grad(ranking, out.scores, retain_graph=True)
    (by_features,) = torch.autograd.grad(added, out.features, retain_graph=True)
    return {
        "ranking_loss": ranking.detach(),
        "contrastive_loss": added.detach(),
        "ranking_gradient": by_scores.norm() * head.detach().norm(),
        "contrastive_gradient": by_features.norm(),
    }


@torch.no_grad()
def _measured(chosen: Tensor, rejected: Tensor, margin: Tensor) -> dict[str, Tensor]:
    gap = chosen - rejected
    return {
        "accuracy": _right(gap).mean(),
        "accuracy_with_margin": _right(gap - margin).mean(),
        "score": ((chosen + rejected) / 2).mean(),
        "gap": gap.mean(),
    }


def _right(gap: Tensor) -> Tensor:
    """1 where a pair is ranked right, 0 where wrong, one half for a tie."""
    return (gap.sign() + 1) / 2


def dev_sums(out: Scores, step: Mapping[str, Any]) -> Tensor:
    """Number of pairs, and sums of their loss, accuracy, mean score and gap, shape [5], fp64."""
    chosen, rejected = (out.scores[0, step[side]].double() for side in ("chosen", "rejected"))
    gap = chosen - rejected
    rows = [
        torch.ones_like(gap),
        ranking_loss(chosen, rejected),
        _right(gap),
        (chosen + rejected) / 2,
        gap,
    ]
    return torch.stack(rows).sum(dim=1)
