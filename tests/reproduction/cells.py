"""Cells of a grid: one JSON file each, written whole; one that is there is not run again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.errors import DataError
from reward_trainer.preferences.writing import replacing

ResultT = TypeVar("ResultT", bound=BaseModel)


class Cell(BaseModel, Generic[ResultT]):
    """One file."""

    model_config = ConfigDict(frozen=True)

    cell: str
    config: str = Field(description="Digest of the configuration.")
    data: str = Field(description="Digest of what it read.")
    minutes: float
    cpu_minutes: float = Field(description="Of this process and of those that it waited for.")
    threads: int
    result: ResultT


class Cells(Generic[ResultT]):
    """The files of one scale.

    Args:
        folder: where they are.
        kind: `Cell[...]` with what a result looks like.
    """

    def __init__(self, folder: Path, kind: type[Cell[ResultT]]) -> None:
        self._folder, self._kind = folder, kind

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def read(self, name: str) -> Cell[ResultT] | None:
        """A cell, or None if it was not run.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path(name)
        try:
            return self._kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is no cell: remove it ({error})") from error

    def run(self, name: str, config: str, data: str, work: Callable[[], ResultT]) -> Cell[ResultT]:
        """Do a cell's work and keep the result."""
        start, cpu_start = time.monotonic(), _cpu_seconds()
        result = work()
        cell = self._kind(
            cell=name,
            config=config,
            data=data,
            minutes=round((time.monotonic() - start) / 60, 3),
            cpu_minutes=round((_cpu_seconds() - cpu_start) / 60, 3),
            threads=torch.get_num_threads(),
            result=result,
        )
        with replacing(self.path(name)) as file:
            file.write(cell.model_dump_json().encode() + b"\n")
        return cell


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
