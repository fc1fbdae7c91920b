"""RewardBench 2 (arXiv 2506.01937): the best of four completions, and prompts with many good ones.

The rules are those of allenai/reward-bench, `scripts/run_v2.py` at 0016644.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_trainer.evaluate.statistics import Array, Estimate, Part, Roots
from reward_trainer.evaluate.ties import Scored, is_ties, ties_parts, ties_root

SCORE = "score"


class RewardBench2Row(BaseModel):
    """One subset, or the mean over subsets."""

    model_config = ConfigDict(frozen=True)

    subset: str
    prompts: int
    score: Estimate


def reward_bench_2(prompts: Sequence[Scored], roots: Sequence[str]) -> list[RewardBench2Row]:
    """Score RewardBench 2.

    The score of a subset is the mean of `credits`, or for `Ties` that of `ties_parts`. The last row
    is the plain mean over subsets.

    Args:
        prompts: those of `Ties` have ids `ref:N` and `tied:N`.
        roots: what the intervals resample, one per prompt; both prompts of an N count as one.

    Raises:
        DataError: the prompts of `Ties` have other ids, or none has both of an N.
    """
    labels = np.array([prompt.subset for prompt in prompts])
    names = list(dict.fromkeys(labels.tolist()))
    clusters = Roots.of([ties_root(*each) for each in zip(prompts, roots, strict=True)])
    earned = credits(prompts)
    parts = {
        name: ties_parts(prompts, labels == name)
        if is_ties(name)
        else [Part(1.0, earned, labels == name)]
        for name in names
    }
    rows = [_row(name, parts[name], clusters) for name in names]
    every = [
        part._replace(weight=part.weight / len(names)) for name in names for part in parts[name]
    ]
    return rows if len(names) == 1 else [*rows, _row(SCORE, every, clusters)]


def credits(prompts: Sequence[Scored]) -> Array:
    """What each prompt earns, shape [prompts].

    1 if its chosen completion alone scores highest, 1/k if it shares that with k - 1 others. With
    several chosen ones (`Ties`): 1 if all of them score above all the rejected ones.
    """
    return np.array([_credit(prompt) for prompt in prompts])


def _credit(prompt: Scored) -> float:
    if len(prompt.chosen) > 1 or is_ties(prompt.subset):
        return float(min(prompt.chosen) > max(prompt.rejected))
    (chosen,) = prompt.chosen
    if chosen < max(prompt.rejected):
        return 0.0
    return 1 / (1 + prompt.rejected.count(chosen))


def _row(name: str, parts: Sequence[Part], roots: Roots) -> RewardBench2Row:
    prompts = int(np.any([part.among for part in parts], axis=0).sum())
    return RewardBench2Row(subset=name, prompts=prompts, score=roots.weighted(parts))
