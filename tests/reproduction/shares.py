"""What training despite noise recovers of what the noise costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduction.draws import Array, Draws
from reproduction.results import Recovery
from reproduction.scales import BASELINE, Candidate
from reward_trainer.evaluate.statistics import Estimate, divided

ANY = "any of these"
# A rate's cells: the Recovery of each candidate, by name, in each fold.
Cells = dict[str, list[Recovery]]


@dataclass(frozen=True)
class Choice:
    """What is trained in each fold.

    Attributes:
        label: how tables name it.
        names: the candidate of each fold.
    """

    label: str
    names: tuple[str, ...]

    def recoveries(self, cells: Cells) -> list[Recovery]:
        return [cells[name][fold] for fold, name in enumerate(self.names)]


@dataclass(frozen=True)
class Row:
    """One line of a recovery table.

    Attributes:
        choice: what was trained.
        accuracy: on clean labels of unseen roots, mean over models.
        seeds: accuracy of the worst and of the best model.
        gain: accuracy minus that of Bradley-Terry on the same noisy labels, paired.
        recovered: gain over what Bradley-Terry on clean labels gains; None where that is itself.
    """

    choice: Choice
    accuracy: Estimate
    seeds: tuple[float, float]
    gain: Estimate
    recovered: Estimate | None


def choices(candidates: Sequence[Candidate], cells: Cells) -> list[Choice]:
    """Every family with its threshold, and the best of all, each chosen on the other folds."""
    families: dict[str, list[str]] = {}
    for candidate in candidates:
        families.setdefault(candidate.family, []).append(candidate.name)
    made = [choose(family, names, cells) for family, names in families.items()]
    return [*made, choose(ANY, [candidate.name for candidate in candidates], cells)]


def choose(label: str, names: Sequence[str], cells: Cells) -> Choice:
    """For each fold the candidate that agrees best with the NOISY labels of the others' roots.

    Neither clean labels nor the rate of noise have a part in it: noise that does not look at the
    label lowers every candidate's agreement alike. Of equals, the first.
    """
    folds = range(len(cells[names[0]]))
    best = []
    for fold in folds:
        others = [other for other in folds if other != fold]
        best.append(max(names, key=lambda name: _noisy_accuracy(cells[name], others)))
    return Choice(label, tuple(best))


def _noisy_accuracy(recoveries: Sequence[Recovery], folds: Sequence[int]) -> float:
    right = sum(float(np.mean(recoveries[fold].right_noisy, axis=0).sum()) for fold in folds)
    return right / sum(sum(recoveries[fold].pairs) for fold in folds)


def fixed(candidate: Candidate, folds: int) -> Choice:
    """The same candidate in every fold."""
    return Choice(candidate.name, (candidate.name,) * folds)


def rows(chosen: Sequence[Choice], cells: Cells, clean: Sequence[Recovery]) -> list[Row]:
    """Measure choices beside Bradley-Terry on the same noisy labels, and on clean ones.

    Args:
        chosen: what is measured.
        cells: of one rate.
        clean: Bradley-Terry at rate 0, in each fold.
    """
    draws = Draws.of(root for fold in clean for root in fold.roots)
    noisy = _accuracy(cells[BASELINE], draws)
    ceiling = _accuracy(clean, draws)
    return [_row(choice, choice.recoveries(cells), noisy, ceiling, draws) for choice in chosen]


def _row(
    choice: Choice, recoveries: Sequence[Recovery], noisy: Array, ceiling: Array, draws: Draws
) -> Row:
    accuracy = _accuracy(recoveries, draws)
    gain, loss = accuracy - noisy, ceiling - noisy
    recovered = None
    if loss[0] > 0:
        recovered = draws.interval(gain[0] / loss[0], divided(gain, loss)[1:])
    return Row(
        choice,
        draws.interval(accuracy[0], accuracy[1:]),
        _by_seed(recoveries),
        draws.interval(gain[0], gain[1:]),
        recovered,
    )


def _accuracy(recoveries: Sequence[Recovery], draws: Draws) -> Array:
    """Of all roots as they are, then of each resample, shape [1 + resamples]."""
    right, pairs = np.zeros(len(draws.place)), np.zeros(len(draws.place))
    for fold in recoveries:
        places = draws.places(fold.roots)
        right[places] += np.mean(fold.right, axis=0)
        pairs[places] += fold.pairs
    weights = np.concatenate([np.ones((1, len(pairs))), draws.counts])
    return np.asarray(weights @ right / (weights @ pairs))


def _by_seed(recoveries: Sequence[Recovery]) -> tuple[float, float]:
    right = sum(np.sum(fold.right, axis=1) for fold in recoveries)
    accuracies = right / sum(sum(fold.pairs) for fold in recoveries)
    return float(np.min(accuracies)), float(np.max(accuracies))
