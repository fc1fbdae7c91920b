"""What goes wrong in the training of a reward model without any error, seen in its log.

Each rule looks at the Trainer's log history alone, so that a resumed training sees what an
uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_trainer.fit.checkpoints import TrainingWarning

History = Sequence[Mapping[str, Any]]
Found = tuple[str, dict[str, float]] | None

_PATIENCE = 3  # evaluations without a better dev result
_TRAIN_FALL = 0.1  # share by which the train loss falls meanwhile
_RATIO, _LOGS = 3.0, 3  # how many times larger, in how many logs in a row
_RISE, _GAP_SHARE = 1.0, 0.25  # least rise in log-odds; the gap's rise over that of the scores


def overfitting_noise(history: History) -> Found:
    """The train loss falls on while neither loss nor accuracy on dev gets better.

    Noisy labels can only be learned by heart (arXiv 2401.06080, section 2.4: dev accuracy peaks
    near the end of the first epoch, then falls).
    """
    evaluations = [row for row in history if "eval_loss" in row]
    if len(evaluations) <= _PATIENCE:
        return None
    loss = _best(evaluations, lambda row: row["eval_loss"])
    accuracy = _best(evaluations, lambda row: -row["eval_accuracy"])
    best = max(loss, accuracy)
    if len(evaluations) - 1 - best < _PATIENCE:
        return None
    before = _train_loss(history, _step(evaluations, best - 1), evaluations[best]["step"])
    after = _train_loss(history, _step(evaluations, -2), evaluations[-1]["step"])
    if before is None or after is None or after > (1 - _TRAIN_FALL) * before:
        return None
    values = {
        "train_loss_before": before,
        "train_loss": after,
        "dev_accuracy_best": evaluations[accuracy]["eval_accuracy"],
        "dev_accuracy": evaluations[-1]["eval_accuracy"],
    }
    return "the train loss falls and dev does not get better: fewer epochs, or denoise", values


def contrastive_dominates(history: History) -> Found:
    """The contrastive loss pulls on the features several times harder than the ranking loss."""
    logs = [row for row in history if "contrastive_gradient" in row][-_LOGS:]
    if len(logs) < _LOGS:
        return None
    ratios = [row["contrastive_gradient"] / (row["ranking_gradient"] or 1e-12) for row in logs]
    if min(ratios) < _RATIO:
        return None
    names = ("contrastive_gradient", "ranking_gradient")
    values = {name: float(logs[-1][name]) for name in names}
    return "its gradient is several times that of the ranking loss: lower beta", values


def score_inflation(history: History) -> Found:
    """Scores rise, by more than the gap between chosen and rejected, and the gap does not.

    arXiv 2401.06080, appendix A.1: seen after the first epoch. The ranking loss leaves the level of
    the scores free, so a fall below 0 is the same thing.
    """
    evaluations = [row for row in history if "eval_score" in row]
    if len(evaluations) <= _PATIENCE:
        return None
    first, last = evaluations[-1 - _PATIENCE], evaluations[-1]
    rise = abs(last["eval_score"]) - abs(first["eval_score"])
    gap = last["eval_gap"] - first["eval_gap"]
    if rise < max(_RISE, last["eval_gap"]) or gap > _GAP_SHARE * rise:
        return None
    values = {"score_rise": rise, "gap_rise": gap, "score": last["eval_score"]}
    return "scores rise and the gap does not: fewer epochs, or centring", values


RULES: Mapping[str, Callable[[History], Found]] = {
    rule.__name__: rule for rule in (overfitting_noise, contrastive_dominates, score_inflation)
}


def look(history: History, member: str, step: int, known: set[str]) -> list[TrainingWarning]:
    """The warnings that are due and not known."""
    found = {kind: rule(history) for kind, rule in RULES.items() if kind not in known}
    return [
        TrainingWarning(kind=kind, member=member, step=step, detail=hit[0], values=hit[1])
        for kind, hit in found.items()
        if hit
    ]


def _best(rows: History, badness: Callable[[Mapping[str, Any]], float]) -> int:
    return min(range(len(rows)), key=lambda index: badness(rows[index]))


def _step(rows: History, index: int) -> int:
    return int(rows[index]["step"]) if -len(rows) <= index and index != -1 else 0


def _train_loss(history: History, after: int, until: int) -> float | None:
    losses = [row["loss"] for row in history if "loss" in row and after < row["step"] <= until]
    return sum(losses) / len(losses) if losses else None
