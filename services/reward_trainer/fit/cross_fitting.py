"""Cross-fitting for calibration: each train pair is scored by members that never saw its root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

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
    jobs: Sequence[Job], pairs: Sequence[Pair], progress: Progress
) -> NDArray[np.float64]:
    """score(chosen) - score(rejected) of every pair by the members of its fold's training.

    Args:
        jobs: of `fold_jobs`, trained.
        pairs: the train part under its own labels; their roots decide the folds.

    Returns:
        Shape [pairs, members].
    """
    fold_of = assign_folds([pair.root for pair in pairs], len(jobs))
    found = np.empty((len(pairs), jobs[0].recipe.members))
    for fold, job in enumerate(jobs):
        ensemble, members, _ = trained_members(job)
        rows = np.flatnonzero(fold_of == fold)
        encoder = ensemble.encoder(job.recipe.max_tokens)
        held_out = [pairs[row] for row in rows.tolist()]
        found[rows] = differences(f"fold {fold + 1}", members, encoder, held_out, progress)
    return found
