"""What a model makes of pairs and groups that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from assay.objectives import normalised_separation
from reproduction.cells import Adapted, Ranked, Separated
from reproduction.metarm.data import Fold, Group
from reproduction.metarm.models import Model, group_scores
from reward_trainer.evaluate.statistics import right
from reward_trainer.fit.pairs import Pair

_DECIMALS = 6


@torch.no_grad()
def measure(model: Model, fold: Fold) -> Adapted:
    """Rank the pairs and separate the groups of a fold."""
    scores = _scores(model, [*fold.original, *fold.shifted])
    original = {key for pair in fold.original for key in _keys(pair)}
    std = float(np.std([scores[key] for key in sorted(original)]))
    return Adapted(
        train_pairs=len(fold.train),
        shifted=_ranked(fold.shifted, scores),
        original=_ranked(fold.original, scores),
        separated={name: _separated(model, sets, std) for name, sets in fold.measured.items()},
    )


def _keys(pair: Pair) -> list[tuple[str, str]]:
    return [(str(pair.prompt), str(side)) for side in (pair.chosen, pair.rejected)]


def _scores(model: Model, pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
    texts = sorted({key for pair in pairs for key in _keys(pair)})
    return dict(zip(texts, model.scores(texts).tolist(), strict=True))


def _ranked(pairs: Sequence[Pair], scores: Mapping[tuple[str, str], float]) -> Ranked:
    both = np.array([[scores[key] for key in _keys(pair)] for pair in pairs])
    topics, index = np.unique([pair.root for pair in pairs], return_inverse=True)
    earned = np.bincount(index, weights=right(both[:, 0] - both[:, 1]))
    return Ranked(topics=topics.tolist(), pairs=np.bincount(index).tolist(), right=earned.tolist())


def _separated(model: Model, groups: Sequence[Group], std: float) -> Separated:
    scores = group_scores(model, groups).double()
    i, j = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)
    gaps = (scores[:, i] - scores[:, j]).abs().mean(dim=1) / std
    clusters, index = np.unique([group.cluster for group in groups], return_inverse=True)
    return Separated(
        clusters=clusters.tolist(),
        groups=np.bincount(index).tolist(),
        separation=_sums(index, normalised_separation(scores).numpy()),
        difference=_sums(index, gaps.numpy()),
    )


def _sums(index: NDArray[np.intp], values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), _DECIMALS) for value in np.bincount(index, weights=values)]
