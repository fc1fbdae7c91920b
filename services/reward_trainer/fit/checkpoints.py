"""What a run leaves on the disk, so that the same command goes on after a kill.

A run's folder holds one folder per member: the Trainer's checkpoints while it is trained, and
`weights.safetensors` beside `outcome.json` when it is done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from reward_trainer.preferences.writing import replacing

_STATE, _WEIGHTS, _OUTCOME = "trainer_state.json", "weights.safetensors", "outcome.json"


class TrainingWarning(BaseModel):
    """Something that a person should look at before the model is used."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="overfitting_noise, contrastive_dominates or score_inflation.")
    member: str
    step: int
    detail: str = Field(description="What was seen, and what helps.")
    values: dict[str, float] = Field(description="The numbers that it was seen in.")


class Outcome(BaseModel):
    """How the training of a member ended."""

    model_config = ConfigDict(frozen=True)

    steps: int
    loss: float = Field(description="Mean loss of the last tenth of the steps.")
    warnings: tuple[TrainingWarning, ...] = ()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the Trainer writes its state last."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        try:
            json.loads((path / _STATE).read_bytes())
        except (OSError, ValueError):
            continue
        return path
    return None


def write_result(folder: Path, weights: Mapping[str, Tensor], outcome: Outcome) -> None:
    """Keep a finished member, and drop its checkpoints.

    Raises:
        DataError: it cannot be written.
    """
    with replacing(folder / _WEIGHTS) as file:
        file.write(safetensors.torch.save(dict(weights)))
    with replacing(folder / _OUTCOME) as file:
        file.write(outcome.model_dump_json(indent=2).encode())
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def is_done(folder: Path) -> bool:
    """Whether a member is trained: its outcome is written last."""
    return (folder / _OUTCOME).is_file()


def read_weights(folder: Path) -> dict[str, Any]:
    """The weights of a finished member."""
    return safetensors.torch.load_file(folder / _WEIGHTS)


def read_outcome(folder: Path) -> Outcome:
    """How its training ended."""
    return Outcome.model_validate_json((folder / _OUTCOME).read_bytes())
