"""How a cell trains and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
from rich.console import Console
from rich.progress import Progress

from assay.models.reward_model import RewardModel
from reward_trainer.fit.ensemble_training import train_ensemble
from reward_trainer.fit.recipe import Recipe
from reward_trainer.fit.trunk_cache import TrunkCache

QUIET = Console(quiet=True)
_NO_BARS = Progress(console=QUIET, disable=True)


@dataclass(frozen=True)
class Training:
    """What all trainings of a cell share.

    Attributes:
        folder: where they leave what they made, until the cell is done.
        device: `auto`, `cpu` or `cuda`.
        trunk: frozen layers' output, shared by all cells.
    """

    folder: Path
    device: str
    trunk: TrunkCache

    def models(self, table: datasets.Dataset, recipe: Recipe) -> RewardModel:
        """The recipe's members, trained on all rows; kept ones are not trained again."""
        return train_ensemble(
            table,
            recipe,
            workdir=self.folder,
            device=self.device,
            progress=_NO_BARS,
            cache=self.trunk,
        )
