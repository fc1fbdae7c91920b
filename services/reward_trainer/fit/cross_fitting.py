"""Cross-fitting for calibration: each train pair is scored by members that never saw its root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from assay.models.inputs import InputEncoder
from reward_trainer.fit.measuring import differences
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.training import Job, trained_members
from reward_trainer.strength.cross_fit import assign_folds


def fold_jobs(job: Job, roots: Sequence[str]) -> list[Job]:
    """The trainings that leave a fold of roots out; none for a recipe or a model without them.

    Args:
        job: the training on all pairs.
        roots: the root of each of its train pairs.

    Raises:
        DataError: there are fewer roots than folds.
    """
    folds = job.recipe.calibration_folds
    if not folds or job.recipe.members == 1:
        return []
    fold_of = assign_folds(roots, folds)
    return [
        replace(
            job,
            train=[pair for pair, own in zip(job.train, fold_of, strict=True) if own != fold],
            dev=(),
            folder=job.folder / f"fold_{fold}_of_{folds}",
            tensorboard=False,
        )
        for fold in range(folds)
    ]


def cross_fitted(
    jobs: Sequence[Job],
    pairs: Sequence[Pair],
    dev: Sequence[Pair],
    final: NDArray[np.float64],
    encoder: InputEncoder,
    progress: Progress,
) -> NDArray[np.float64]:
    """score(chosen) - score(rejected) of every pair by the members of its fold's training.

    Members that are trained on fewer pairs give smaller differences, so each fold's are brought to
    the scale of the finished ensemble: times the ratio of their root mean squares on the dev part,
    which neither was trained on.

    Args:
        jobs: of `fold_jobs`, trained.
        pairs: the train part under its own labels; their roots decide the folds.
        dev: the dev part.
        final: what the finished members make of it, shape [dev pairs, members].
        encoder: of the finished ensemble.
        progress: gets a bar for each fold.

    Returns:
        Shape [pairs, members].
    """
    fold_of = assign_folds([pair.root for pair in pairs], len(jobs))
    found = np.empty((len(pairs), final.shape[1]))
    for fold, job in enumerate(jobs):
        members = trained_members(job)[1]
        rows = np.flatnonzero(fold_of == fold)
        part = [*(pairs[row] for row in rows.tolist()), *dev]
        own = differences(f"fold {fold + 1}", members, encoder, part, progress)
        found[rows] = own[: len(rows)] * (_scale(final) / _scale(own[len(rows) :]))
    return found


def _scale(values: NDArray[np.float64]) -> float:
    """Root mean square of the ensemble mean; 1 where there is none."""
    return float(np.sqrt((values.mean(axis=1) ** 2).mean())) or 1.0
