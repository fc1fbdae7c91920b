"""Cells of the grid: one JSON file each, written whole; one that is there is not run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.errors import DataError
from reward_trainer.preferences.writing import replacing


class Detection(BaseModel):
    """What each detector says of each pair of a training part, under its noisy label.

    Positive = agrees with the label. Lists have a number per pair.
    """

    model_config = ConfigDict(frozen=True)

    roots: list[str]
    flipped: list[int] = Field(description="1 where the label was turned round.")
    differences: list[list[float]] = Field(description="Of each cross-fitted member.")
    log_length: list[float] = Field(description="log(characters of chosen / of rejected).")
    pair_graph: list[float] = Field(description="By the labels of the other pairs alone.")


class Recovery(BaseModel):
    """How the models by one recipe rank pairs of roots that they never saw."""

    model_config = ConfigDict(frozen=True)

    train_pairs: int
    roots: list[str]
    pairs: list[int] = Field(description="Per root.")
    right: list[list[float]] = Field(description="Clean labels, per model and root; ties half.")
    right_noisy: list[list[float]] = Field(description="The same by noisy labels.")


class Ranked(BaseModel):
    """How many pairs are ranked right, by topic."""

    model_config = ConfigDict(frozen=True)

    topics: list[str]
    pairs: list[int]
    right: list[float] = Field(description="Ties count half.")


class Separated(BaseModel):
    """How far groups of completions are told apart, sums over the groups of a topic or prompt."""

    model_config = ConfigDict(frozen=True)

    clusters: list[str]
    groups: list[int]
    separation: list[float] = Field(description="Normalised J.")
    difference: list[float] = Field(description="Mean |difference| over the std of all scores.")


class Adapted(BaseModel):
    """A model after steps of an update rule."""

    model_config = ConfigDict(frozen=True)

    train_pairs: int
    shifted: Ranked = Field(description="Pairs of topics that no label was seen of.")
    original: Ranked = Field(description="Other texts of the topics that were trained on.")
    separated: dict[str, Separated] = Field(description="By set of groups.")


class Optimised(BaseModel):
    """A policy trained against a proxy, measured on held-out prompts on its way.

    Lists have an entry per measurement; the first is the base policy.
    """

    model_config = ConfigDict(frozen=True)

    prompts: list[str]
    steps: list[int]
    kl: list[float] = Field(description="To the base policy, nats per completion.")
    length: list[float] = Field(description="Tokens, times the base policy's.")
    proxy: list[float] = Field(description="Gain by the proxy, in std of the base policy's.")
    gold: list[list[float]] = Field(description="Mean gold score of each prompt.")
    gold_std: float = Field(description="Of the base policy's completions.")


Result = Detection | Recovery | Adapted | Optimised


class Cell(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True)

    cell: str
    config: str = Field(description="Digest of the configuration.")
    data: str = Field(description="Digest of the pairs.")
    minutes: float
    cpu_minutes: float
    threads: int
    result: Result


class Cells:
    """The files of one scale.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def read(self, name: str) -> Cell | None:
        """A cell, or None if it was not run.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path(name)
        try:
            return Cell.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is no cell: remove it ({error})") from error

    def run(
        self,
        name: str,
        config: str,
        data: str,
        work: Callable[[], Result],
    ) -> Cell:
        """Do a cell's work and keep the result."""
        start, cpu_start = time.monotonic(), _cpu_s()
        result = work()
        cell = Cell(
            cell=name,
            config=config,
            data=data,
            minutes=round((time.monotonic() - start) / 60, 3),
            cpu_minutes=round((_cpu_s() - cpu_start) / 60, 3),
            threads=torch.get_num_threads(),
            result=result,
        )
        with replacing(self.path(name)) as file:
            file.write(cell.model_dump_json().encode() + b"\n")
        return cell


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
