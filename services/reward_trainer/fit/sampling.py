"""What each pair weighs, and which pairs share a step.

Pairs are indices here; texts are indices of distinct inputs. 900 texts may make 10,000 pairs, so
the pairs of a prompt stay together and each text of a step is scored once.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from random import Random

from reward_trainer.fit.pairs import Pair, plain_json

Group = list[int]
Sides = Sequence[tuple[int, int]]
# A prompt's pairs are cut into several groups where their texts exceed so many steps' tokens.
_LARGEST_GROUP = 4


def pair_weights(pairs: Sequence[Pair], sides: Sides, balance: float) -> list[float]:
    """The weight of each pair in the loss, shape [pairs].

    The weights of a source add up to the number of its distinct texts: ten thousand pairs among a
    thousand texts hold no more than those texts do.

    Args:
        pairs: training pairs.
        sides: the two texts of each.
        balance: see `balanced_weights`.
    """
    weights = [0.0] * len(pairs)
    for rows in _by(pairs, lambda pair: pair.source):
        balanced = balanced_weights([pairs[row].extra_length for row in rows], balance)
        own = [pairs[row].weight * weight for row, weight in zip(rows, balanced, strict=True)]
        texts = {text for row in rows for text in sides[row]}
        scale = len(texts) / (sum(own) or 1.0)
        for row, weight in zip(rows, own, strict=True):
            weights[row] = weight * scale
    return weights


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


def prompt_groups(
    pairs: Sequence[Pair],
    sides: Sides,
    tokens: Sequence[int],
    step_tokens: int,
    passes: Mapping[str, int] | None = None,
) -> list[Group]:
    """The pairs of each prompt, as often as an epoch goes over them.

    Args:
        pairs: training pairs.
        sides: the two texts of each.
        tokens: the length of each text.
        step_tokens: groups hold at most a few times as many.
        passes: how often an epoch goes over a source; once if it is not named.
    """
    groups: list[Group] = []
    for rows in _by(pairs, lambda pair: (pair.source, json.dumps(plain_json(pair.prompt)))):
        often = (passes or {}).get(pairs[rows[0]].source, 1)
        groups += _cut(rows, sides, tokens, _LARGEST_GROUP * step_tokens) * often
    return groups


def _cut(rows: Group, sides: Sides, tokens: Sequence[int], limit: int) -> list[Group]:
    """Groups whose texts fit the limit; each takes all the pairs among the texts that it has."""
    groups = []
    while rows:
        texts: set[int] = set()
        group: Group = []
        rest: Group = []
        used = 0
        for row in rows:
            extra = sum(tokens[text] for text in set(sides[row]) - texts)
            if not group or used + extra <= limit:
                group.append(row)
                texts.update(sides[row])
                used += extra
            else:
                rest.append(row)
        groups.append(group)
        rows = rest
    return groups


def step_count(groups: Sequence[Group], sizes: Sequence[int], step_tokens: int) -> int:
    """Steps of an epoch: as many as its tokens need, and no more than there are groups."""
    return max(1, min(len(groups), -(-sum(sizes) // step_tokens)))


def pack(groups: Sequence[Group], sizes: Sequence[int], steps: int, random: Random) -> list[Group]:
    """One epoch: the groups in random order, each put to the step with the fewest tokens so far.

    The number of steps is the same in every epoch, and they are of like size on every rank.

    Args:
        groups: see `prompt_groups`.
        sizes: tokens of each group.
        steps: see `step_count`.
        random: decides the order.
    """
    order = list(range(len(groups)))
    random.shuffle(order)
    packed: list[Group] = [[] for _ in range(steps)]
    loads = [(0, step) for step in range(steps)]
    for index in order:
        load, step = heapq.heappop(loads)
        packed[step] += groups[index]
        heapq.heappush(loads, (load + sizes[index], step))
    random.shuffle(packed)
    return packed


def _by(pairs: Sequence[Pair], key: Callable[[Pair], Hashable]) -> list[Group]:
    rows: dict[Hashable, Group] = defaultdict(list)
    for row, pair in enumerate(pairs):
        rows[key(pair)].append(row)
    return list(rows.values())
