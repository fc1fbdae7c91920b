"""A detector that reads no text: Bradley-Terry strengths of the texts, from who beat whom."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import datasets
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from reproduction.noise import ROOT
from reward_trainer.preferences.digests import pair_digests
from reward_trainer.preferences.formats import COLUMNS, plain

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Indices = Sequence[int] | Places
_FOLDS = 10


def pair_graph_differences(table: datasets.Dataset) -> Array:
    """strength(chosen) - strength(rejected) of each pair, by the labels of the other pairs.

    Each tenth of the pairs is left out in turn. What is known of its texts are their other pairs,
    so the fit needs texts that were judged several times.

    Args:
        table: pairs with roots; no text is in two roots.

    Returns:
        Shape [pairs].
    """
    chosen, rejected = text_places(table)
    folds = np.array([_fold(digest) for digest in pair_digests(table)])
    roots = np.unique(np.array(table[ROOT]), return_inverse=True)[1]
    differences = np.zeros(len(table))
    for root in range(roots.max() + 1):
        rows = np.flatnonzero(roots == root)
        texts, sides = np.unique([chosen[rows], rejected[rows]], return_inverse=True)
        a, b = sides.reshape(2, -1)
        for fold in np.unique(folds[rows]):
            out = folds[rows] == fold
            theta = bradley_terry(a[~out], b[~out], len(texts))
            differences[rows[out]] = theta[a[out]] - theta[b[out]]
    return differences


def bradley_terry(winners: Indices, losers: Indices, texts: int) -> Array:
    """Strengths of texts under a standard normal prior.

    Bradley and Terry (1952), doi 10.2307/2334029:

        minimise  sum_i softplus(theta_loser - theta_winner) + |theta|^2 / 2

    Args:
        winners: text that won each comparison, shape [comparisons].
        losers: text that lost it, shape [comparisons].
        texts: how many there are.

    Returns:
        Shape [texts].
    """
    count = len(winners)
    if not count:
        return np.zeros(texts)
    signs = np.zeros((count, texts))
    signs[np.arange(count), winners] = 1.0
    signs[np.arange(count), losers] -= 1.0
    # Each comparison in both orders, as the library wants two classes: hence one half.
    model = LogisticRegression(C=0.5, fit_intercept=False, solver="newton-cholesky", tol=1e-8)
    model.fit(np.concatenate([signs, -signs]), np.repeat([1, 0], count))
    return np.asarray(model.coef_[0])


def text_places(table: datasets.Dataset) -> tuple[Places, Places]:
    """The chosen and the rejected text of each pair, texts counted from 0."""
    index: dict[str, int] = {}
    columns = [[plain(value) for value in table[name]] for name in COLUMNS]
    sides = [
        [index.setdefault(json.dumps([row[0], side]), len(index)) for side in row[1:]]
        for row in zip(*columns, strict=True)
    ]
    chosen, rejected = np.array(sides).T
    return chosen, rejected


def _fold(digest: str) -> int:
    return int(hashlib.sha256(f"graph:{digest}".encode()).hexdigest()[:8], 16) % _FOLDS
