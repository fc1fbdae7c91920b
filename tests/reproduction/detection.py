"""A strength cell: what an ensemble and plainer detectors say of noisy labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
from numpy.typing import NDArray

from assay.errors import DataError
from assay.models.reward_model import RewardModel
from reproduction.noise import FLIPPED, ROOT
from reproduction.pair_graph import pair_graph_differences
from reproduction.results import Detection
from reproduction.training import QUIET, Training
from reward_trainer.fit.recipe import Recipe
from reward_trainer.preferences.formats import COLUMNS, plain
from reward_trainer.strength.cross_fit import cross_fit

_DECIMALS = 4


def detect(noisy: datasets.Dataset, recipe: Recipe, folds: int, training: Training) -> Detection:
    """Measure a training part under its noisy labels.

    Args:
        noisy: pairs with `root` and `flipped`.
        recipe: of the ensembles; each measures roots that it was not trained on.
        folds: how many ensembles.
        training: how they are trained.

    Raises:
        DataError: too few roots, or a pair that is in two.
    """
    pairs, roots = noisy.select_columns(list(COLUMNS)), list(noisy[ROOT])

    def train(part: datasets.Dataset, _: object) -> RewardModel:
        refuse_other_labels(part, pairs)
        return training.models(part, recipe)

    measured = cross_fit(
        pairs,
        roots,
        folds,
        train,
        version=f"cross-fit:{recipe.name}",
        workdir=training.folder,
        console=QUIET,
    )
    return Detection(
        roots=roots,
        flipped=[int(flipped) for flipped in noisy[FLIPPED]],
        differences=[_rounded(member) for member in measured.differences.T],
        log_length=_rounded(log_length_differences(pairs)),
        pair_graph=_rounded(pair_graph_differences(noisy)),
    )


def refuse_other_labels(seen: datasets.Dataset, noisy: datasets.Dataset) -> None:
    """Refuse a detector that knows more than the noisy labels.

    Args:
        seen: the pairs that it was trained on.
        noisy: the pairs whose labels it is to judge.

    Raises:
        DataError: it saw one of them under the opposite label.
    """
    turned = set(_rows(noisy, ("prompt", "rejected", "chosen")))
    wrong = sum(row in turned for row in _rows(seen, COLUMNS))
    if wrong:
        raise DataError(
            f"{wrong} of the pairs that the detector was trained on have another label than the "
            "pairs that it is to judge: it knows the clean labels, or was trained on other noise"
        )


def _rows(table: datasets.Dataset, names: Sequence[str]) -> Iterator[str]:
    columns = (table[name] for name in names)
    return (json.dumps([plain(v) for v in row]) for row in zip(*columns, strict=True))


def log_length_differences(table: datasets.Dataset) -> NDArray[np.float64]:
    """log(characters of chosen) - log(characters of rejected), shape [pairs]."""
    chosen, rejected = (np.array([len(text) for text in table[side]]) for side in COLUMNS[1:])
    return np.asarray(np.log(chosen) - np.log(rejected))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]
