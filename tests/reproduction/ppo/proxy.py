"""The proxy: a reward model that learned from few of gold's preferences, some of them wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo_worker.demo import task
from ppo_worker.loading import load_policy
from ppo_worker.rollout import sample
from ppo_worker.seeds import seeded
from ppo_worker.settings import PPOSettings
from reproduction.ppo.gold import Gold
from reproduction.ppo.scales import Scale
from reward_trainer.fit.run import FitSettings, fit
from reward_trainer.preferences.writing import replacing


class LabelledPair(NamedTuple):
    """Two completions of a prompt in the order of their label."""

    prompt: str
    chosen: str
    rejected: str


def make_proxy(scale: Scale, seed: int, gold: Gold, home: Path) -> None:
    """Write `NAME/1` to the store of a home folder; one that is there is kept.

    Args:
        scale: sizes.
        seed: of completions, wrong labels and members.
        gold: who labels.
        home: of the server that is to serve it.
    """
    if (home / "store" / scale.training["model"] / "1" / "manifest.json").exists():
        return
    prompts = task.training_prompts()
    groups = base_completions(prompts, scale.samples, seed)
    pairs = label(prompts, groups, gold.scores(prompts, groups), scale.flipped, Random(seed))
    data = home / "pairs.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    with replacing(data) as file:
        for pair in pairs:
            file.write(json.dumps(pair._asdict()).encode() + b"\n")
    changes = {**scale.training, "seed": 100 * seed}
    fit(FitSettings(recipe="bt", changes=changes, data=str(data), out=home / "store"))


def base_completions(prompts: Sequence[str], size: int, seed: int) -> list[list[str]]:
    """What the policy says before it is trained."""
    settings = PPOSettings(_env_file=None, demo=True)
    policy, codec = load_policy(settings, str(task.POLICY))
    with seeded(seed, "proxy", 0):
        drawn = sample(policy.model, codec, prompts, size, settings.micro_batch)
    return [[drawn.texts[row] for row in drawn.group(index)] for index in range(len(prompts))]


def label(
    prompts: Sequence[str],
    groups: Sequence[Sequence[str]],
    scores: Sequence[NDArray[np.float64]],
    flipped: float,
    random: Random,
) -> list[LabelledPair]:
    """Pairs of neighbours in each group, the better one first, some turned round.

    A text without a score, or with its neighbour's, is in no pair.
    """
    pairs = []
    for prompt, texts, values in zip(prompts, groups, scores, strict=True):
        for left in range(0, len(texts) - 1, 2):
            difference = values[left] - values[left + 1]
            if np.isnan(difference) or difference == 0:
                continue
            first = texts[left], texts[left + 1]
            if (difference < 0) != (random.random() < flipped):
                first = first[::-1]
            pairs.append(LabelledPair(prompt, *first))
    return pairs
