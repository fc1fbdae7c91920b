"""Calibration of an ensemble on pairs that no member was trained on.

Bradley-Terry fixes each member's scale and leaves its offset free, so the offsets are set here:
a mean of 0 over the calibration texts. Without that, spread and minimum over members mean nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from assay.errors import ScoringError
from assay.schemas.models import Calibration

if TYPE_CHECKING:
    from assay.models.members import Members
    from assay.models.scorer import EncodedInput

PairInputs = tuple["EncodedInput", "EncodedInput"]
QUANTILES = 101
_BATCH_TOKENS = 4096


def calibrate(
    members: Members,
    pairs: Sequence[PairInputs],
    *,
    cross_fitted: NDArray[np.float64] | None = None,
    level: float = 0.0,
) -> Calibration:
    """Centre the members' heads in place and measure the ensemble.

    Args:
        members: two or more; each head must have a bias.
        pairs: encoded (chosen, rejected); the mean is taken over their distinct texts.
        cross_fitted: score(chosen) - score(rejected) of these pairs by members trained likewise
            but without them, shape [pairs, members]. None = no member was trained on the pairs.
        level: the mean that every member gets. A version that takes over from another one gets
            that one's, so that the scores of a policy in training do not jump.

    Returns:
        The offsets that were taken off, the fitted temperature and the quantiles of the ensemble
        mean difference.

    Raises:
        ScoringError: a score is not finite; nothing has changed.
    """
    texts = list({side.digest: side for pair in pairs for side in pair}.values())
    scores = score_all(members, texts)
    if not np.isfinite(scores).all():
        raise ScoringError("a calibration text has a score that is not finite: train anew")
    offsets = scores.mean(axis=0) - level
    _centre(members, offsets)
    rows = {text.digest: index for index, text in enumerate(texts)}
    chosen = scores[[rows[pair[0].digest] for pair in pairs]]
    rejected = scores[[rows[pair[1].digest] for pair in pairs]]
    differences = chosen - rejected if cross_fitted is None else cross_fitted
    quantiles = np.quantile(differences.mean(axis=1), np.linspace(0.0, 1.0, QUANTILES))
    return Calibration(
        pairs=len(pairs),
        cross_fitted=cross_fitted is not None,
        offsets=offsets.tolist(),
        temperature=fit_temperature(differences),
        quantiles=quantiles.tolist(),
        digest=_digest(pairs),
    )


def fit_temperature(differences: NDArray[np.float64]) -> float:
    """T that minimises the log-loss of the ensemble's probability that `chosen` is better.

    `p_i = mean over m of sigmoid(d_im / T)`, loss `-mean log p_i`, by search over a grid of 0.5 %.

    Args:
        differences: score(chosen) - score(rejected), shape [pairs, members].
    """
    grid = np.geomspace(0.02, 50.0, 1600)
    losses = [-np.log(_probability(differences, t)).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def _probability(differences: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    logits = np.clip(differences / temperature, -500.0, 500.0)
    probability: NDArray[np.float64] = (1.0 / (1.0 + np.exp(-logits))).mean(axis=1)
    return np.maximum(probability, 1e-12)


def score_all(members: Members, texts: Sequence[EncodedInput]) -> NDArray[np.float64]:
    """Scores of any number of inputs, shape [texts, members], in length-sorted batches."""
    scores = np.empty((len(texts), members.count))
    for batch in length_batches(texts):
        scores[batch] = members.score([texts[i] for i in batch]).double().numpy()
    return scores


def length_batches(texts: Sequence[EncodedInput]) -> Iterator[list[int]]:
    """Positions of texts of like length, as many a batch as fit its tokens."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) + 1) * len(texts[index]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _centre(members: Members, offsets: NDArray[np.float64]) -> None:
    with torch.no_grad():
        for head, offset in zip(members.heads(), offsets, strict=True):
            head.bias.sub_(float(offset))


def _digest(pairs: Sequence[PairInputs]) -> str:
    digest = hashlib.sha256()
    for chosen, rejected in pairs:
        digest.update(chosen.digest + rejected.digest)
    return digest.hexdigest()
