"""A fold's data: labelled pairs of seen and unseen topics, groups of completions without labels.

Texts are divided by hash. Of seen topics some are trained on and others measured; of unseen ones
some are read without labels by the rules, and only pairs of the others are measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from assay.errors import DataError
from reproduction.metarm.scales import Meta, Scale
from reward_trainer.fit.pairs import Pair, find_source, pairs_of
from reward_trainer.fit.splits import position
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import groups_of
from reward_trainer.preferences.sources import read_file
from reward_trainer.strength.cross_fit import assign_folds

ARGUMENTS, SAMPLES = "ukpconvarg1_strict", "policy_samples_rl_drift"
START = "OpenAssistant/oasst-sft-6-llama-30b"
CHECKPOINTS = tuple(f"OpenAssistant/oasst-rlhf-1-llama-30b-{n}k-steps" for n in (1, 2, 3, 8))
K_SAMPLES = 5
START_GROUPS, END_GROUPS, TOPIC_GROUPS = "SFT", "RLHF 8k", "unseen topics"
_TRAINED, _READ = 0.6, 1 / 3
_SALT = "metarm"


class Group(NamedTuple):
    """Completions of one prompt; `cluster` is what intervals resample."""

    cluster: str
    prompt: str
    completions: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """What the variants of one fold are trained and measured on.

    Attributes:
        train: labelled pairs of the seen topics.
        original: pairs of other texts of the seen topics.
        shifted: pairs of the unseen topics, of texts that no rule reads.
        meta: groups that rules read, in phases that follow each other as the policy moves.
        measured: groups that no rule reads, by name of the set.
    """

    train: list[Pair]
    original: list[Pair]
    shifted: list[Pair]
    meta: Mapping[Meta, Sequence[Sequence[Group]]]
    measured: Mapping[str, Sequence[Group]]


class Data(NamedTuple):
    """The files."""

    pairs: list[Pair]
    samples: Mapping[str, Mapping[str, tuple[str, ...]]]


def read_data(folder: Path) -> Data:
    """Labelled arguments, and the samples of each policy by prompt.

    Raises:
        DataError: a file is missing, or has other columns.
    """
    table = read_preferences(str(find_source(folder, ARGUMENTS)))
    pairs = pairs_of(table, groups_of(table, "topic"), ARGUMENTS)
    return Data(pairs, _samples(find_source(folder, SAMPLES)))


def _samples(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    rows = read_file(path).others
    wanted = {"policy", "completion"}
    if rows is None or not wanted <= set(rows.column_names):
        raise DataError(f"{path.name} has no columns prompt, policy and completion")
    prompts = [str(row["prompt"]) for row in read_file(path).pairs]
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for prompt, policy, text in zip(prompts, rows["policy"], rows["completion"], strict=True):
        found[policy][prompt].append(text)
    return {
        policy: {p: tuple(texts) for p, texts in by_prompt.items() if len(texts) == K_SAMPLES}
        for policy, by_prompt in found.items()
    }


def make_fold(data: Data, scale: Scale, fold: int) -> Fold:
    """One fold: its topics are unseen, the others are trained on."""
    folds = assign_folds([pair.root for pair in data.pairs], scale.folds)
    seen = [pair for pair, own in zip(data.pairs, folds, strict=True) if own != fold]
    unseen = [pair for pair, own in zip(data.pairs, folds, strict=True) if own == fold]
    train, original = _divided(seen, _TRAINED)
    _, shifted = _divided(unseen, _READ)
    order = sorted(train, key=lambda pair: position(_SALT, pair.key))
    policy, measured = _policy_groups(data.samples, scale)
    read, unread = _argument_groups(unseen, scale)
    return Fold(
        train=order[: scale.train_pairs],
        original=original,
        shifted=shifted,
        meta={"policy": policy, "topics": [read]},
        measured={**measured, TOPIC_GROUPS: unread},
    )


def _divided(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs of two texts below the share, and of two above it; mixed ones are left out."""
    low: list[Pair] = []
    high: list[Pair] = []
    for pair in pairs:
        below = [_place(pair.prompt, side) < share for side in (pair.chosen, pair.rejected)]
        if all(below):
            low.append(pair)
        elif not any(below):
            high.append(pair)
    return low, high


def _place(prompt: object, text: object) -> float:
    return position(_SALT, f"{prompt}\n{text}")


def _policy_groups(
    samples: Mapping[str, Mapping[str, tuple[str, ...]]], scale: Scale
) -> tuple[list[list[Group]], dict[str, list[Group]]]:
    """Groups of each checkpoint in turn, and those of kept prompts at the start and the end."""
    for policy in (START, *CHECKPOINTS):
        if policy not in samples:
            raise DataError(f"{SAMPLES} has no samples of {policy}")
    prompts = set.intersection(*(set(samples[policy]) for policy in (START, *CHECKPOINTS)))
    order = sorted(prompts, key=lambda prompt: position(_SALT, prompt))
    kept, free = order[: scale.eval_prompts], order[scale.eval_prompts :]
    each = -(-scale.steps * scale.batch_groups // len(CHECKPOINTS))

    def groups(policy: str, chosen: Sequence[str]) -> list[Group]:
        return [Group(prompt, prompt, samples[policy][prompt]) for prompt in chosen]

    phases = [groups(policy, free[:each]) for policy in CHECKPOINTS]
    return phases, {
        START_GROUPS: groups(START, kept),
        END_GROUPS: groups(CHECKPOINTS[-1], kept),
    }


def _argument_groups(pairs: Sequence[Pair], scale: Scale) -> tuple[list[Group], list[Group]]:
    """Groups of arguments for one side of a topic: those that rules read, and the others."""
    texts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pair in pairs:
        texts[pair.root, str(pair.prompt)] |= {str(pair.chosen), str(pair.rejected)}
    read: list[Group] = []
    unread: list[Group] = []
    each = -(-scale.steps * scale.batch_groups // len(texts))
    for (topic, prompt), found in sorted(texts.items()):
        random = Random(f"{_SALT}:{prompt}")
        low = [text for text in sorted(found) if _place(prompt, text) < _READ]
        high = [text for text in sorted(found) if _place(prompt, text) >= _READ]
        if len(low) >= scale.k:
            read += [Group(topic, prompt, tuple(random.sample(low, scale.k))) for _ in range(each)]
        random.shuffle(high)
        whole = range(0, len(high) - scale.k + 1, scale.k)
        unread += [Group(topic, prompt, tuple(high[at : at + scale.k])) for at in whole]
    return read, unread
