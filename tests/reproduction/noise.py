"""The grid's data: pairs with their roots, folds of them, and labels turned round by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

from reproduction.scales import Scale
from reward_trainer.fit.pairs import find_source
from reward_trainer.fit.recipe import Source, load_recipe
from reward_trainer.preferences.columns import with_columns
from reward_trainer.preferences.digests import pair_digests
from reward_trainer.preferences.formats import COLUMNS
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import RootKind, groups_of, root_of
from reward_trainer.strength.cross_fit import assign_folds

ROOT, FLIPPED = "root", "flipped"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """A training part with noisy labels, and the roots that it lacks with clean ones.

    Attributes:
        train: `flipped` says which labels were turned round.
        test: labels are clean; `flipped` says which the noise would have turned round.
    """

    train: datasets.Dataset
    test: datasets.Dataset


def read_pairs(folder: Path, scale: Scale) -> datasets.Dataset:
    """The scale's pairs, each once, with the column `root`.

    Raises:
        DataError: a file is missing, or a row of it cannot be used.
    """
    known = {source.name: source for source in load_recipe("default").sources}
    parts = [_read(folder, known[name]) for name in scale.sources]
    table = datasets.concatenate_datasets(parts)
    first = {digest: row for row, digest in reversed(list(enumerate(pair_digests(table))))}
    table = table.select(sorted(first.values()))
    if scale.roots is None:
        return table
    kept = sorted(set(table[ROOT]), key=lambda root: _chance(scale.seed, "root", root))
    chosen = set(kept[: scale.roots])
    return table.select([row for row, root in enumerate(table[ROOT]) if root in chosen])


def _read(folder: Path, source: Source) -> datasets.Dataset:
    table = read_preferences(str(find_source(folder, source.name)))
    if source.root == "topic":
        roots = groups_of(table, "topic")
    else:
        kind: RootKind = "chat" if source.root == "chat" else "turn"
        roots = [root_of(prompt, kind) for prompt in table["prompt"]]
    return with_columns(table.select_columns(list(COLUMNS)), {ROOT: roots})


def make_fold(table: datasets.Dataset, scale: Scale, rate: float, fold: int) -> Fold:
    """One fold at one rate of noise.

    Which pairs are sampled and whose labels turn depends on their texts and the scale's seed
    alone: a higher rate turns the same labels and more, in every fold.

    Args:
        table: clean pairs with roots.
        scale: sizes.
        rate: share of the labels that are turned round.
        fold: which roots are held out.
    """
    digests = pair_digests(table)
    flips = flip_mask(digests, scale.seed, rate)
    held_out = assign_folds(table[ROOT], scale.folds) == fold
    train = sample(np.flatnonzero(~held_out), digests, scale)
    test = np.flatnonzero(held_out)
    noisy = turned(table.select(train), flips[train])
    clean = with_columns(table.select(test), {FLIPPED: flips[test].tolist()})
    return Fold(noisy, clean)


def flip_mask(digests: Sequence[str], seed: int, rate: float) -> Mask:
    """Which labels turn, each with the same chance, whatever it is; shape [pairs]."""
    return np.array([_chance(seed, "noise", digest) < rate for digest in digests])


def sample(rows: NDArray[np.intp], digests: Sequence[str], scale: Scale) -> NDArray[np.intp]:
    """As many of the rows as a training part holds, by chance, in their order."""
    order = sorted(rows, key=lambda row: _chance(scale.seed, "sample", digests[row]))
    return np.array(sorted(order[: scale.train_pairs]), dtype=np.intp)


def turned(table: datasets.Dataset, flips: Mask) -> datasets.Dataset:
    """The table with chosen and rejected swapped where `flips`, which becomes a column."""
    sides = zip(table["chosen"], table["rejected"], flips, strict=True)
    pairs = [(b, a) if flip else (a, b) for a, b, flip in sides]
    return with_columns(
        table,
        {
            "chosen": [chosen for chosen, _ in pairs],
            "rejected": [rejected for _, rejected in pairs],
            FLIPPED: flips.tolist(),
        },
    )


def _chance(seed: int, use: str, text: str) -> float:
    """A number in [0, 1), uniform over texts."""
    digest = hashlib.sha256(f"{seed}:{use}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
