"""What a model makes of pairs and groups that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from assay.objectives import normalised_separation
from reproduction.metarm.data import Fold, Group
from reproduction.metarm.models import Model
from reproduction.metarm.results import Adapted, Ranked, Separated
from reward_trainer.evaluate.statistics import right
from reward_trainer.fit.pairs import Pair

_DECIMALS = 6
Text = tuple[str, str]


@torch.no_grad()
def measure(model: Model, fold: Fold) -> Adapted:
    """Rank the pairs and separate the groups of a fold."""
    pairs = [*fold.original, *fold.shifted]
    groups = [group for own in fold.measured.values() for group in own]
    scores = _scores(model, [*map(_sides, pairs), *map(_texts, groups)])
    original = {key for pair in fold.original for key in _sides(pair)}
    std = float(np.std([scores[key] for key in sorted(original)]))
    return Adapted(
        train_pairs=len(fold.train),
        shifted=_ranked(fold.shifted, scores),
        original=_ranked(fold.original, scores),
        separated={n: _separated(own, scores, std) for n, own in fold.measured.items()},
    )


def _sides(pair: Pair) -> list[Text]:
    return [(str(pair.prompt), str(side)) for side in (pair.chosen, pair.rejected)]


def _texts(group: Group) -> list[Text]:
    return [(group.prompt, text) for text in group.completions]


def _scores(model: Model, parts: Iterable[Sequence[Text]]) -> dict[Text, float]:
    texts = sorted({text for part in parts for text in part})
    return dict(zip(texts, model.scores(texts).tolist(), strict=True))


def _ranked(pairs: Sequence[Pair], scores: Mapping[Text, float]) -> Ranked:
    both = np.array([[scores[key] for key in _sides(pair)] for pair in pairs])
    topics, index = np.unique([pair.root for pair in pairs], return_inverse=True)
    earned = np.bincount(index, weights=right(both[:, 0] - both[:, 1]))
    return Ranked(topics=topics.tolist(), pairs=np.bincount(index).tolist(), right=earned.tolist())


def _separated(groups: Sequence[Group], known: Mapping[Text, float], std: float) -> Separated:
    rows = [[known[text] for text in _texts(group)] for group in groups]
    scores = torch.tensor(rows, dtype=torch.float64)
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
