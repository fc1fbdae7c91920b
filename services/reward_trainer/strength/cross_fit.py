"""Cross-fitting: every pair is scored by members that were not trained on its group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from assay.errors import DataError
from assay.models.scorer import Scorer
from reward_trainer.preferences.digests import pair_digests
from reward_trainer.preferences.writing import replacing
from reward_trainer.strength.differences import Array, Measured, measure, standardise

Train = Callable[[datasets.Dataset, Path], Scorer]


def cross_fit(
    table: datasets.Dataset,
    groups: Sequence[str],
    folds: int,
    train: Train,
    *,
    version: str,
    workdir: Path,
    console: Console,
    standardised: bool = False,
) -> Measured:
    """Score each fold with an ensemble trained on the others.

    A fold's result is kept in `workdir`, so that a run that was interrupted goes on.

    Args:
        table: preference pairs.
        groups: what must not be split, shape [pairs].
        folds: how many; at most the number of groups.
        train: makes an ensemble from the pairs of the other folds; gets a folder of its own.
        version: names recipe and data; kept results of other versions are not used.
        workdir: folder for results and for `train`.
        console: gets a line per fold, and progress bars.
        standardised: bring the members of each fold to one scale; see `standardise`.

    Raises:
        DataError: too few groups, a pair that is in two of them, or an ensemble of one.
    """
    check_groups(table, groups)
    fold_of = assign_folds(groups, folds)
    parts: list[tuple[NDArray[np.intp], Array]] = []
    truncated = 0
    for fold in range(folds):
        held_out = np.flatnonzero(fold_of == fold)
        kept = workdir / f"fold_{fold}_of_{folds}_{_short_digest(version)}.npz"
        part = _read(kept, version)
        if part is None:
            rest = np.flatnonzero(fold_of != fold)
            console.print(
                f"fold {fold + 1} of {folds}: {len(rest)} pairs train, {len(held_out)} wait"
            )
            scorer = train(table.select(rest), workdir / f"fold_{fold}")
            part = measure(scorer, table.select(held_out), console)
            _keep(part, kept)
        values = standardise(part.differences) if standardised else part.differences
        parts.append((held_out, values))
        truncated += part.truncated
    differences = np.empty((len(table), parts[0][1].shape[1]))
    for rows, values in parts:
        differences[rows] = values
    return Measured(version, differences, truncated)


def assign_folds(groups: Sequence[str], folds: int) -> NDArray[np.intp]:
    """A fold for each row: whole groups, folds of nearly equal size, whatever the order of rows.

    The largest group goes first, each into the fold that is smallest so far.

    Raises:
        DataError: fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(groups)
    if folds < 2:
        raise DataError(f"{folds} fold leaves nothing to train on: cross-fit with 2 or more")
    if len(sizes) < folds:
        raise DataError(
            f"{folds} folds need as many groups, and there are {len(sizes)}: lower --cross-fit, or "
            "choose another --group"
        )
    filled, fold_of_group = [0] * folds, {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], _short_digest(group))):
        fold = filled.index(min(filled))
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    return np.array([fold_of_group[group] for group in groups])


def check_groups(table: datasets.Dataset, groups: Sequence[str]) -> None:
    """Refuse groups across which the same pair of texts occurs.

    Raises:
        DataError: such a pair, by its rows.
    """
    seen: dict[str, int] = {}
    for row, digest in enumerate(pair_digests(table)):
        first = seen.setdefault(digest, row)
        if groups[first] != groups[row]:
            raise DataError(
                f"rows {first + 1} and {row + 1} are the same pair in two groups, so members would "
                "score pairs that they were trained on: choose another --group"
            )


def _keep(part: Measured, path: Path) -> None:
    with replacing(path) as file:
        np.savez(file, differences=part.differences, truncated=part.truncated)


def _read(path: Path, version: str) -> Measured | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            return Measured(version, kept["differences"], int(kept["truncated"]))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it") from error


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
