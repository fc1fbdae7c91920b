"""The worker's checkpoint: one folder, complete and on the disk before it takes its name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from assay.errors import DataError
from assay.files import sync
from assay.models.manifest import file_sha256
from ppo_worker.normaliser import Moments

_STATE, _TENSORS, _DIGEST = "state.json", "tensors.pt", "tensors.sha256"


class State(BaseModel):
    """Where a run stands, beside its weights; what is drawn is a function of seed and step.

    Attributes:
        run_id: of the run, in the keys of its samples.
        step: steps that are done.
        moments: of the rewards of each version.
        model_version: the one that gave the last rewards.
        warned: kinds of warnings that were given.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    run_id: str
    step: int = 0
    moments: dict[str, Moments] = {}
    model_version: str | None = None
    warned: list[str] = []


class Checkpoint(NamedTuple):
    """What was saved."""

    state: State
    tensors: dict[str, Any]


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, or None.

    Raises:
        DataError: it is damaged.
    """
    steps = _steps(folder)
    if not steps:
        return None
    newest = folder / _name(max(steps))
    try:
        state = State.model_validate_json((newest / _STATE).read_bytes())
        if file_sha256(newest / _TENSORS) != (newest / _DIGEST).read_text(errors="replace"):
            raise DataError(_damaged(newest, f"{_TENSORS} differs from its digest"))
        tensors = torch.load(newest / _TENSORS, weights_only=True, map_location="cpu")
    except (OSError, ValidationError) as error:
        raise DataError(_damaged(newest, str(error).splitlines()[0])) from error
    return Checkpoint(state, tensors)


def write_checkpoint(folder: Path, state: State, tensors: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then delete those before it.

    Args:
        folder: of all checkpoints.
        state: its step gives the name.
        tensors: nothing but tensors, numbers and containers of them.

    Raises:
        DataError: it cannot be written; the one before stays.
    """
    target = folder / _name(state.step)
    draft = folder / f".{target.name}.tmp"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        torch.save(dict(tensors), draft / _TENSORS)
        (draft / _DIGEST).write_text(file_sha256(draft / _TENSORS))
        (draft / _STATE).write_text(state.model_dump_json())
        for path in (*draft.iterdir(), draft):
            sync(path)
        draft.rename(target)
        sync(folder)
    except (OSError, RuntimeError) as error:  # torch.save on a full disk
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{target} cannot be written: {reason}; free some disk") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for step in _steps(folder):
        if step < state.step:
            shutil.rmtree(folder / _name(step), ignore_errors=True)
    return target


def _steps(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]


def _name(step: int) -> str:
    return f"{step:09d}"


def _damaged(path: Path, reason: str) -> str:
    return f"the checkpoint {path} is damaged ({reason}): delete the run {path.parent.parent}"
