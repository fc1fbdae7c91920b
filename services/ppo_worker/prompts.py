"""Prompts and texts from files, and which prompts a step takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field, ValidationError

from assay.errors import DataError
from assay.schemas.base import Inbound
from assay.schemas.text import Prompt
from ppo_worker.seeds import generator

_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.1, 100
_JSON_LINES = ".jsonl", ".json"
_Row = TypeVar("_Row", bound=Inbound)


class PromptRow(Inbound):
    """A line of a file of prompts."""

    prompt: Prompt
    split: Literal["train", "held_out"] | None = Field(
        default=None,
        description="None in every line = every tenth prompt is held out, 100 at most.",
    )


class TextRow(Inbound):
    """A line of a file of texts."""

    text: str = Field(min_length=1)


@dataclass(frozen=True)
class Prompts:
    """What a policy is trained on, and what its gain is measured on.

    Raises:
        DataError: one of the two is empty.
    """

    train: Sequence[Prompt]
    held_out: Sequence[Prompt]

    def __post_init__(self) -> None:
        for name in ("train", "held_out"):
            if not getattr(self, name):
                raise DataError(f"there are no {name} prompts: at least one is needed")

    @property
    def parts(self) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
        """Both."""
        return self.train, self.held_out

    def batch(self, size: int, seed: int, step: int) -> list[Prompt]:
        """The prompts of a step, from 1 on: a function of seed and step alone.

        Each pass takes every training prompt once, in an order of its own.
        """
        first, n = (step - 1) * size, len(self.train)
        orders: dict[int, list[int]] = {}
        chosen = []
        for place in range(first, first + size):
            number, position = divmod(place, n)
            if number not in orders:
                numbers = generator(seed, "prompts", number)
                orders[number] = torch.randperm(n, generator=numbers).tolist()
            chosen.append(self.train[orders[number][position]])
        return chosen

    def visited(self, size: int, seed: int, steps: int) -> list[Prompt]:
        """The distinct training prompts of a run's first steps, in the order of their first one."""
        passes = -(-size * steps // len(self.train))
        if passes > 1:
            return list(self.train)
        return [prompt for step in range(1, steps + 1) for prompt in self.batch(size, seed, step)]


def read_prompts(path: Path, seed: int) -> Prompts:
    """Read prompts: one a line, or, where the name ends in `.json(l)`, one JSON object a line.

    Args:
        path: UTF-8; empty lines are left out.
        seed: decides what is held out where no line says `split`.

    Raises:
        DataError: it cannot be read, a line is wrong, or there are fewer than two prompts.
    """
    rows = _rows(path, PromptRow, "prompt")
    if any(row.split for row in rows):
        held_out = [row.prompt for row in rows if row.split == "held_out"]
        return Prompts([row.prompt for row in rows if row.split != "held_out"], held_out)
    if len(rows) < 2:
        raise DataError(f"{path} has {len(rows)} prompts: two are needed, one is held out")
    order = torch.randperm(len(rows), generator=generator(seed, "held out", 0)).tolist()
    share = max(1, round(_HELD_OUT_SHARE * len(rows)))
    held = set(order[: min(share, _MOST_HELD_OUT)])  # all of them are measured on, each time
    parts: tuple[list[Prompt], list[Prompt]] = [], []
    for index, row in enumerate(rows):
        parts[index in held].append(row.prompt)
    return Prompts(*parts)


def read_texts(path: Path) -> list[str]:
    """Read texts: one a line, or, where the name ends in `.json(l)`, `{"text": ...}` a line.

    Raises:
        DataError: it cannot be read, a line is wrong, or there is no text.
    """
    texts = [row.text for row in _rows(path, TextRow, "text")]
    if not texts:
        raise DataError(f"{path} holds no text")
    return texts


def _rows(path: Path, kind: type[_Row], field: str) -> list[_Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it") from None
    is_json, rows = path.suffix.lower() in _JSON_LINES, []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        fields = _object(line, where) if is_json else {field: line}
        try:
            rows.append(kind.model_validate(fields))
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise DataError(f"{where}: {place}: {fault['msg']}") from None
    return rows


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where} is no JSON object")
    return value
