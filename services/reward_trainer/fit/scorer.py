"""The module that the Trainer trains: it scores all texts of a step in one forward call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.objectives import random_prototypes
from reward_trainer.fit.ensemble import Member

_WEIGHTS = "model."


class Scores(NamedTuple):
    """What a step's texts got, in `views` passes that differ in their dropout.

    Attributes:
        scores: shape [views, texts], fp32.
        features: what the head reads, shape [views, texts, width], fp32.
    """

    scores: Tensor
    features: Tensor


class StepScorer(nn.Module):
    """Scores batches of like length; a distributed wrapper may stand around it.

    Args:
        member: what scores.
        prototypes: number of SwAV prototypes, trained beside the model; 0 = none.
    """

    def __init__(self, member: Member, prototypes: int = 0) -> None:
        super().__init__()
        self.model = member.model
        self._pooler = member.pooler
        self._trunk = member.trunk
        self._captured: list[Tensor] = []
        member.head.register_forward_pre_hook(self._capture)
        # accelerate's FSDP policy looks for it here: the classes that are wrapped one by one.
        self._no_split_modules = getattr(member.pooler.model, "_no_split_modules", None)
        self._head = [member.head]  # in a list, so that it is registered once, inside the model
        self.prototypes: nn.Parameter | None = None
        if prototypes:
            directions = random_prototypes(prototypes, member.head.in_features)
            self.prototypes = nn.Parameter(directions.to(member.head.weight.device))

    @property
    def head_weight(self) -> Tensor:
        """Weight of the reward head, shape [1, width]."""
        return self._head[0].weight

    def forward(self, batches: Sequence[Mapping[str, Any]], texts: int, views: int = 1) -> Scores:
        """Score every text, `views` times.

        Args:
            batches: `inputs` as the pooler collates them, `places` of the rows among the texts,
                and `hidden`, the trunk output, if it is cached.
            texts: how many there are.
            views: passes.
        """
        passes = [self._pass(batches, texts) for _ in range(views)]
        scores, features = zip(*passes, strict=True)
        return Scores(torch.stack(scores), torch.stack(features))

    def _pass(self, batches: Sequence[Mapping[str, Any]], texts: int) -> tuple[Tensor, Tensor]:
        scores, features = [], []
        for batch in batches:
            with self._trunk_output(batch):
                scores.append(self._pooler.scores(batch["inputs"]))
            features.append(self._captured.pop().float())
        places = torch.cat([batch["places"] for batch in batches])
        order = torch.empty_like(places)
        order[places] = torch.arange(texts, device=places.device)
        return torch.cat(scores)[order], torch.cat(features)[order]

    def _trunk_output(self, batch: Mapping[str, Any]) -> AbstractContextManager[None]:
        if self._trunk is None or "hidden" not in batch:
            return nullcontext()
        return self._trunk.replay(batch["hidden"].to(self._pooler.model.dtype))

    def _capture(self, _head: nn.Module, args: tuple[Any, ...]) -> None:
        self._captured[:] = [args[0]]


def model_weights(state: Mapping[str, Tensor], scorer: StepScorer) -> dict[str, Tensor]:
    """The trained weights of the model inside a scorer, on the CPU.

    Args:
        state: the scorer's full state, gathered from all ranks.
        scorer: names what is trained.
    """
    trained = [name for name, weight in scorer.named_parameters() if weight.requires_grad]
    return {
        name.removeprefix(_WEIGHTS): state[name].detach().cpu().contiguous()
        for name in trained
        if name.startswith(_WEIGHTS)
    }
