"""The subset `Ties` of RewardBench 2: questions with many right answers, and easy ones with one.

Question N comes twice: `tied:N` has several right answers, `ref:N` one. A good model puts all right
answers above all wrong ones, and tells right from wrong more sharply than right from right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from assay.errors import DataError
from reward_trainer.evaluate.statistics import Array, Mask, Part

_ID = re.compile(r"(ref|tied):(\w+)")


class Scored(BaseModel):
    """The scores of one prompt's completions."""

    model_config = ConfigDict(frozen=True)

    id: str
    subset: str
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Worst right answer minus best wrong one."""
        return min(self.chosen) - max(self.rejected)

    @property
    def spread(self) -> float:
        """Best right answer minus worst right one."""
        return max(self.chosen) - min(self.chosen)


def is_ties(subset: str) -> bool:
    """Whether a subset is scored by the rules of this module."""
    return subset.lower() == "ties"


def ties_root(prompt: Scored, root: str) -> str:
    """One root for both prompts of an N; others keep theirs."""
    match = _ID.fullmatch(prompt.id)
    return f"ties:{match[2]}" if match and is_ties(prompt.subset) else root


def ties_parts(prompts: Sequence[Scored], among: Mask) -> list[Part]:
    """The five parts of the score.

    With `least = min(gap of ref:N, gap of tied:N)` and the spread of tied:N:

        .30 mean[gap of tied > 0] + .30 mean[gap of ref > 0]       over all prompts of the kind
        + .20 mean[gap of tied > spread] + .20 mean[least > spread]     over each N that has both
        + .01 mean[tanh(least / spread - 1)]                       likewise; 0 / 0 counts as 0

    Args:
        prompts: of all subsets.
        among: those of `Ties`, shape [prompts].

    Raises:
        DataError: an id is neither `ref:N` nor `tied:N`, or no N has both.
    """
    refs, ties = _places(prompts, among)
    both = refs.keys() & ties.keys()
    if not both:
        raise DataError("Ties: there is no N with both a prompt ref:N and a prompt tied:N")
    gaps = np.array([prompt.gap for prompt in prompts])
    right = (gaps > 0).astype(float)
    spreads = np.array([prompt.spread for prompt in prompts])
    least = gaps.copy()
    for n in both:
        least[ties[n]] = min(gaps[ties[n]], gaps[refs[n]])
    paired = _mask([ties[n] for n in both], prompts)
    return [
        Part(0.30, right, _mask(ties.values(), prompts)),
        Part(0.30, right, _mask(refs.values(), prompts)),
        Part(0.20, (gaps > spreads).astype(float), paired),
        Part(0.20, (least > spreads).astype(float), paired),
        Part(0.01, _margins(least, spreads), paired),
    ]


def _places(prompts: Sequence[Scored], among: Mask) -> tuple[dict[str, int], dict[str, int]]:
    """Where `ref:N` and `tied:N` are, by N."""
    found: dict[str, dict[str, int]] = {"ref": {}, "tied": {}}
    for place in map(int, np.flatnonzero(among)):
        match = _ID.fullmatch(prompts[place].id)
        if match is None:
            raise DataError(f"Ties: the id {prompts[place].id!r} is neither ref:N nor tied:N")
        found[match[1]][match[2]] = place
    return found["ref"], found["tied"]


def _mask(places: Iterable[int], prompts: Sequence[Scored]) -> Mask:
    mask = np.zeros(len(prompts), dtype=bool)
    mask[list(places)] = True
    return mask


def _margins(least: Array, spreads: Array) -> Array:
    flat = np.where(least == 0, 1.0, np.copysign(np.inf, least))  # right answers all alike
    ratio = np.divide(least, spreads, out=flat, where=spreads > 0)
    return np.asarray(np.tanh(ratio - 1))
