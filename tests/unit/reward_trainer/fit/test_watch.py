from __future__ import annotations

from typing import Any

from reward_trainer.fit.watch import (
    History,
    contrastive_dominates,
    look,
    overfitting_noise,
    score_inflation,
)


def history(train: list[float], dev: list[tuple[float, float]], **more: list[float]) -> History:
    """One log and one evaluation every ten steps."""
    rows: list[dict[str, Any]] = []
    for i, (loss, (dev_loss, accuracy)) in enumerate(zip(train, dev, strict=True)):
        extra = {name: values[i] for name, values in more.items()}
        rows.append({"step": 10 * (i + 1), "loss": loss})
        rows.append(
            {"step": 10 * (i + 1), "eval_loss": dev_loss, "eval_accuracy": accuracy, **extra}
        )
    return rows


def test_noise_is_overfitted_if_the_train_loss_falls_and_dev_stalls() -> None:
    dev = [(0.68, 0.55), (0.66, 0.60), (0.67, 0.58), (0.70, 0.57), (0.75, 0.55)]
    found = overfitting_noise(history([0.69, 0.60, 0.5, 0.4, 0.3], dev))
    assert found is not None
    values = found[1]
    assert (values["train_loss_before"], values["train_loss"]) == (0.60, 0.3)
    assert (values["dev_accuracy_best"], values["dev_accuracy"]) == (0.60, 0.55)


def test_it_is_not_if_dev_gets_better_or_the_train_loss_stays() -> None:
    better = [(0.68, 0.55), (0.66, 0.60), (0.67, 0.58), (0.70, 0.57), (0.75, 0.61)]
    assert overfitting_noise(history([0.69, 0.6, 0.5, 0.4, 0.3], better)) is None
    stalled = [(0.68, 0.55), (0.66, 0.60), (0.67, 0.58), (0.70, 0.57), (0.75, 0.55)]
    assert overfitting_noise(history([0.69, 0.60, 0.60, 0.59, 0.58], stalled)) is None
    assert overfitting_noise(history([0.69, 0.6], stalled[:2])) is None


def test_a_contrastive_loss_dominates_if_it_pulls_harder_in_several_logs() -> None:
    def rows(*ratios: float) -> History:
        return [{"contrastive_gradient": r, "ranking_gradient": 1.0, "step": 1} for r in ratios]

    assert contrastive_dominates(rows(9, 1, 3.1, 4, 5)) is not None
    assert contrastive_dominates(rows(9, 9, 2.9)) is None
    assert contrastive_dominates(rows(9, 9)) is None
    assert contrastive_dominates([{"loss": 1.0}] * 5) is None


def test_scores_inflate_if_they_rise_and_the_gap_does_not() -> None:
    def rows(scores: list[float], gaps: list[float]) -> History:
        level = [(0.6, 0.6)] * len(scores)
        return history([0.6] * len(scores), level, eval_score=scores, eval_gap=gaps)

    assert score_inflation(rows([0.0, 0.1, 0.5, 1.0, 1.6], [0.5] * 5)) is not None
    assert score_inflation(rows([0.0, -0.1, -0.5, -1.0, -1.6], [0.5] * 5)) is not None
    assert score_inflation(rows([0.0, 0.1, 0.5, 1.0, 1.6], [0.1, 0.2, 0.4, 0.7, 1.0])) is None
    assert score_inflation(rows([0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 5)) is None


def test_what_is_known_is_not_said_again() -> None:
    rows = [{"contrastive_gradient": 9.0, "ranking_gradient": 1.0, "step": 7}] * 3
    (found,) = look(rows, "member_1", 7, set())
    assert (found.kind, found.member, found.step) == ("contrastive_dominates", "member_1", 7)
    assert look(rows, "member_1", 8, {"contrastive_dominates"}) == []
