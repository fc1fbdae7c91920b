"""The members of a reward model: whole models, or adapters over one shared backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from assay.models.pooling import Pooler, reward_head
from assay.models.trunk import SharedTrunk

if TYPE_CHECKING:
    from peft import PeftModel

    from assay.models.scorer import EncodedInput


class Members(ABC):
    """One or more scoring functions over the same inputs."""

    count: int

    @abstractmethod
    def score(self, batch: Sequence[EncodedInput]) -> Tensor:
        """Scores of a batch, shape [batch, members], fp32."""

    @abstractmethod
    def heads(self) -> list[nn.Linear]:
        """The layer of each member that gives its score."""

    @abstractmethod
    def modules(self) -> list[nn.Module]:
        """The models that hold all weights."""

    def tensors(self) -> Iterator[Tensor]:
        """All weights and buffers."""
        for module in self.modules():
            yield from module.parameters()
            yield from module.buffers()

    def park(self) -> bool:
        """See `Scorer.park`."""
        return False

    def unpark(self) -> None:
        """See `Scorer.unpark`."""
        raise NotImplementedError("nothing of it was parked")


class WholeMembers(Members):
    """M full models that read the same tokens."""

    def __init__(self, poolers: Sequence[Pooler]) -> None:
        self.poolers = list(poolers)
        self.count = len(self.poolers)
        self._device = self.poolers[0].model.device

    @torch.inference_mode()
    def score(self, batch: Sequence[EncodedInput]) -> Tensor:
        """See `Members.score`."""
        inputs = self.poolers[0].collate(batch)
        return torch.stack([pooler.scores(inputs).cpu() for pooler in self.poolers], dim=1)

    def heads(self) -> list[nn.Linear]:
        """See `Members.heads`."""
        return [reward_head(pooler.model) for pooler in self.poolers]

    def modules(self) -> list[nn.Module]:
        """See `Members.modules`."""
        return [pooler.model for pooler in self.poolers]

    def park(self) -> bool:
        """See `Scorer.park`."""
        spread = any(hasattr(pooler.model, "hf_device_map") for pooler in self.poolers)
        if spread or self._device.type == "cpu":
            return False
        self._move(torch.device("cpu"))
        return True

    def unpark(self) -> None:
        """See `Scorer.unpark`."""
        self._move(self._device)

    def _move(self, device: torch.device) -> None:
        for pooler in self.poolers:
            nn.Module.to(pooler.model, device)


class AdapterMembers(Members):
    """M peft adapters with their own heads over one backbone.

    Args:
        model: the peft model; `pooler` scores with the model inside it.
        pooler: made before peft wrapped the model.
        names: adapter of each member.
        trunk_layers: lowest layers that no adapter touches; they run once a batch.
    """

    def __init__(
        self, model: PeftModel, pooler: Pooler, names: Sequence[str], trunk_layers: int
    ) -> None:
        self.model = model
        self.pooler = pooler
        self.names = list(names)
        self.count = len(self.names)
        self.trunk = SharedTrunk(pooler.model, trunk_layers) if trunk_layers else None
        self._switched = [
            module
            for module in model.modules()
            if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper)
        ]

    def activate(self, name: str) -> None:
        """Let one member answer.

        peft's own `set_adapter` walks all modules and toggles gradients, which takes longer than
        the forward pass of a small model; training code wants that, scoring does not.
        """
        for module in self._switched:
            module._active_adapter = [name]

    @torch.inference_mode()
    def score(self, batch: Sequence[EncodedInput]) -> Tensor:
        """See `Members.score`."""
        inputs = self.pooler.collate(batch)
        columns = []
        for index, name in enumerate(self.names):
            self.activate(name)
            shared = self.trunk.replay() if self.trunk and index else nullcontext()
            with shared:
                columns.append(self.pooler.scores(inputs).cpu())
        return torch.stack(columns, dim=1)

    def heads(self) -> list[nn.Linear]:
        """See `Members.heads`."""
        return [reward_head(self.model, name) for name in self.names]

    def modules(self) -> list[nn.Module]:
        """See `Members.modules`."""
        return [self.model]
