"""Training of one member: the ranking loss over all pairs among the texts of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import torch
from rich.progress import Progress
from torch import Tensor

from assay.errors import ScoringError
from assay.models.calibration import length_batches
from assay.models.members import AdapterMembers
from assay.objectives.ranking import ranking_loss
from reward_trainer.fit.features import Features, Text, score
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.sampling import Group, steps, texts_of

_CLIP_NORM = 1.0


def train_member(
    index: int,
    members: AdapterMembers,
    groups: Sequence[Group],
    features: Mapping[Text, Features],
    recipe: Recipe,
    progress: Progress,
) -> float:
    """Train one adapter and its head in place; the order of the steps follows from its seed.

    Returns:
        The mean loss of the last tenth of the steps, per text.

    Raises:
        ScoringError: the loss is no longer finite.
    """
    random = Random(recipe.seed + index)
    torch.manual_seed(recipe.seed + index)
    members.model.set_adapter(members.names[index])
    members.model.train()
    tokens = {text: len(row.encoded) for text, row in features.items()}
    plan = [
        step
        for _ in range(recipe.epochs)
        for step in steps(groups, tokens, recipe.step_tokens, random)
    ]
    optimizer, schedule = _optimizer(members, len(plan), recipe)
    losses = []
    for step in progress.track(plan, description=members.names[index]):
        loss = step_loss(step, members, features)
        if not loss.isfinite():
            raise ScoringError(f"the loss of {members.names[index]} is {loss.item()}")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(members.model.parameters(), _CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    members.model.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def step_loss(step: Group, members: AdapterMembers, features: Mapping[Text, Features]) -> Tensor:
    """Weighted loss of a step's pairs over its number of texts, each text scored once."""
    texts = texts_of(step)
    rows = [features[text] for text in texts]
    scores = torch.empty(len(rows))
    for batch in length_batches([row.encoded for row in rows]):
        scores = scores.index_put((torch.tensor(batch),), score([rows[i] for i in batch], members))
    position = {text: index for index, text in enumerate(texts)}
    chosen = scores[[position[pair.chosen] for pair in step]]
    rejected = scores[[position[pair.rejected] for pair in step]]
    weights = torch.tensor([pair.weight for pair in step])
    return (weights * ranking_loss(chosen, rejected)).sum() / len(texts)


def _optimizer(
    members: AdapterMembers, steps_total: int, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    trained = [weight for weight in members.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = max(1, round(recipe.warmup * steps_total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / steps_total)
    )
    return optimizer, schedule
