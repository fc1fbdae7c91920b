"""A recipe's cell: models trained on noisy labels, tested on clean ones of other roots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reproduction.noise import FLIPPED, ROOT, Fold
from reproduction.results import Detection, Recovery
from reproduction.training import QUIET, Training
from reward_trainer.evaluate.statistics import right
from reward_trainer.fit.recipe import Recipe
from reward_trainer.preferences.formats import COLUMNS
from reward_trainer.strength.columns import add_strength
from reward_trainer.strength.differences import Array, measure


def recover(fold: Fold, recipe: Recipe, strength: Detection | None, training: Training) -> Recovery:
    """Train a recipe's models and count the held-out pairs that each ranks right.

    Args:
        fold: noisy pairs to train on, clean ones to test on.
        recipe: how; its members are the models.
        strength: of the training pairs, for recipes that read it.
        training: how they are trained.
    """
    table = fold.train.select_columns(list(COLUMNS))
    if strength is not None:
        table = add_strength(table, np.array(strength.differences).T, "cross-fit")
    models = training.models(table, recipe)
    differences = measure(models, fold.test, QUIET).differences
    turned = np.where(np.array(fold.test[FLIPPED])[:, None], -differences, differences)
    roots, index = np.unique(np.array(fold.test[ROOT]), return_inverse=True)
    return Recovery(
        train_pairs=len(table),
        roots=roots.tolist(),
        pairs=np.bincount(index).tolist(),
        right=_by_root(right(differences), index),
        right_noisy=_by_root(right(turned), index),
    )


def _by_root(right: Array, index: NDArray[np.intp]) -> list[list[float]]:
    return [np.bincount(index, weights=model).tolist() for model in right.T]
