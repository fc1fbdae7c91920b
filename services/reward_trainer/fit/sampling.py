"""What each pair weighs, and which texts share a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from reward_trainer.fit.data import Pair
from reward_trainer.fit.features import Text
from reward_trainer.fit.recipe import Recipe


@dataclass(frozen=True)
class WeightedPair:
    """A training pair as it goes into the loss."""

    chosen: Text
    rejected: Text
    weight: float


Group = list[WeightedPair]


def weighted_groups(pairs: Sequence[Pair], recipe: Recipe) -> list[Group]:
    """The pairs of each prompt, as often as an epoch goes over them.

    The weights of a source add up to the number of its distinct texts: ten thousand pairs among a
    thousand texts hold no more than those texts do.
    """
    by_source: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_source[pair.source].append(pair)
    passes = {source.name: source.passes for source in recipe.sources}
    groups: list[Group] = []
    for source, rows in by_source.items():
        groups += _groups(rows, recipe.balance) * passes[source]
    return groups


def _groups(rows: Sequence[Pair], balance: float) -> list[Group]:
    weights = balanced_weights([row.extra_length for row in rows], balance)
    scale = len({text for row in rows for text in row.texts}) / sum(weights)
    by_prompt: dict[str, Group] = defaultdict(list)
    for row, weight in zip(rows, weights, strict=True):
        by_prompt[row.prompt].append(WeightedPair(*row.texts, weight * scale))
    return list(by_prompt.values())


def balanced_weights(extra_lengths: Sequence[int], balance: float) -> list[float]:
    """Weights against the length bias: `(0.5 / share of its kind) ** balance`.

    With balance 1, pairs whose longer text wins weigh in total as much as those whose longer text
    loses, so that length alone predicts nothing. Pairs of equal length, and a source in which one
    kind does not occur, keep a weight of 1.

    Args:
        extra_lengths: by how much the chosen text is longer, per pair.
        balance: from 0 (every pair the same) to 1.
    """
    longer = sum(extra > 0 for extra in extra_lengths)
    shorter = sum(extra < 0 for extra in extra_lengths)
    if not longer or not shorter:
        return [1.0] * len(extra_lengths)
    half = (longer + shorter) / 2
    by_kind = {1: (half / longer) ** balance, -1: (half / shorter) ** balance, 0: 1.0}
    return [by_kind[(extra > 0) - (extra < 0)] for extra in extra_lengths]


def steps(
    groups: Sequence[Group], tokens: Mapping[Text, int], step_tokens: int, random: Random
) -> Iterator[Group]:
    """One epoch: the groups in random order, as many a step as fit its tokens, at least one."""
    order = list(groups)
    random.shuffle(order)
    step: Group = []
    used = 0
    for group in order:
        size = sum(tokens[text] for text in texts_of(group))
        if step and used + size > step_tokens:
            yield step
            step, used = [], 0
        step = step + group
        used += size
    if step:
        yield step


def texts_of(pairs: Sequence[WeightedPair]) -> list[Text]:
    """The distinct texts of some pairs, in order of appearance."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.chosen, pair.rejected)))
