"""The trainer's checkpoint: one folder, complete and on the disk before it takes its name.

A folder is called `TOKEN-SAVES`, by the lease under which it was written and how many came before.
The largest name counts: whatever a trainer writes that has lost its lease, with an older token, is
behind the first checkpoint of the one that took over.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from assay.errors import DataError
from assay.files import sync
from assay.models.manifest import file_sha256
from reward_trainer.online.state import State

_STATE, _TENSORS = "state.json", "tensors.pt"
_DIGEST = "tensors.sha256"


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        state: see `State`.
        tensors: weights, optimizers and the state of the random numbers.
    """

    state: State
    tensors: dict[str, Any]


def newest_token(folder: Path) -> int:
    """The token of the newest checkpoint, 0 if there is none."""
    return max((name[0] for name in _names(folder)), default=0)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, or None.

    Raises:
        DataError: it is damaged.
    """
    names = _names(folder)
    if not names:
        return None
    newest = folder / _name(*max(names))
    try:
        state = State.model_validate_json((newest / _STATE).read_bytes())
        data = newest / _TENSORS
        if file_sha256(data) != (newest / _DIGEST).read_text(errors="replace"):
            raise DataError(_damaged(newest, f"{_TENSORS} differs from its digest"))
        return Checkpoint(state, torch.load(data, weights_only=True, map_location="cpu"))
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise DataError(_damaged(newest, first)) from error


def write_checkpoint(folder: Path, state: State, tensors: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then delete those before it.

    Args:
        folder: of all checkpoints.
        state: its `token` and `saves` give the name.
        tensors: nothing but tensors, numbers and containers of them.

    Raises:
        DataError: it cannot be written; the one before stays.
    """
    target = folder / _name(state.token, state.saves)
    draft = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        torch.save(dict(tensors), draft / _TENSORS)
        (draft / _DIGEST).write_text(file_sha256(draft / _TENSORS))
        (draft / _STATE).write_bytes(state.model_dump_json().encode())
        for path in (*draft.iterdir(), draft):
            sync(path)
        draft.rename(target)
        sync(folder)
    except (OSError, RuntimeError) as error:  # torch.save on a full disk
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{target} cannot be written: {reason}; free some disk: the trainer goes on from the "
            "checkpoint before"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _delete_before(folder, (state.token, state.saves))
    return target


def _delete_before(folder: Path, newest: tuple[int, int]) -> None:
    for name in _names(folder):
        if name < newest:
            shutil.rmtree(folder / _name(*name), ignore_errors=True)
    for draft in folder.glob(".*.tmp"):  # of a trainer that was killed
        if draft.name.split(".")[1] <= _name(*newest):
            shutil.rmtree(draft, ignore_errors=True)


def _names(folder: Path) -> list[tuple[int, int]]:
    found = []
    for path in folder.glob("*-*"):
        token, _, saves = path.name.partition("-")
        if token.isdecimal() and saves.isdecimal():
            found.append((int(token), int(saves)))
    return found


def _name(token: int, saves: int) -> str:
    return f"{token:06d}-{saves:09d}"


def _damaged(path: Path, reason: str) -> str:
    return (
        f"the checkpoint {path} is damaged ({reason}): delete {path.parent} to train anew from the "
        "serving version"
    )
