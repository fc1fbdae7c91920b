from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.objectives import simcse_loss
from reward_trainer.fit.losses import contrastive_options, dev_sums, step_loss
from reward_trainer.fit.recipe import Objective
from reward_trainer.fit.scorer import Scores

HEAD = torch.tensor([[0.5, -1.0, 2.0]])
PAIRS = [(0, 1), (0, 2), (2, 1)]


def step(**changes: list[float]) -> dict[str, Any]:
    return {
        "texts": 3,
        "chosen": torch.tensor([chosen for chosen, _ in PAIRS]),
        "rejected": torch.tensor([rejected for _, rejected in PAIRS]),
        "weight": torch.tensor(changes.get("weight", [1.0, 1.0, 1.0])),
        "margin": torch.tensor(changes.get("margin", [0.0, 0.0, 0.0])),
        "smoothing": torch.tensor(changes.get("smoothing", [0.0, 0.0, 0.0])),
    }


def scored(views: int = 1) -> tuple[Scores, Tensor]:
    """Scores of three texts by a linear head, and the features that they come from."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(views, 3, 3, generator=generator, requires_grad=True)
    return Scores((features @ HEAD.T)[..., 0], features), features


def by_hand(scores: list[float], margin: float, alpha: float, pair: int) -> float:
    chosen, rejected = PAIRS[pair]
    z = scores[chosen] - scores[rejected] - margin
    return (1 - alpha) * math.log1p(math.exp(-z)) + alpha * math.log1p(math.exp(z))


def test_the_loss_of_a_step_is_the_weighted_sum_over_its_texts() -> None:
    out, _ = scored(views=2)
    given = step(weight=[1.0, 2.0, 0.5], margin=[0.3, -0.7, 0.0], smoothing=[0.0, 0.2, 0.9])
    expected = 0.0
    for view in out.scores.tolist():
        for pair in range(3):
            margin, alpha = given["margin"][pair].item(), given["smoothing"][pair].item()
            expected += given["weight"][pair].item() * by_hand(view, margin, alpha, pair) / 6
    found = step_loss(out, given, Objective(), HEAD)
    assert found.total.item() == pytest.approx(expected, rel=1e-6)


def test_batch_margins_come_on_top_of_the_pairs_own() -> None:
    out = Scores(torch.tensor([[1.5, 0.0, 0.5]]), torch.zeros(1, 3, 3))
    # Differences 1.5, 1.0 and 0.5: their mean is 1.
    mean = step_loss(out, step(margin=[0.1, 0.0, 0.0]), Objective(batch_margin="batch_mean"), HEAD)
    expected = sum(
        by_hand([1.5, 0.0, 0.5], margin, 0.0, pair) for pair, margin in enumerate((1.1, 1.0, 1.0))
    )
    assert mean.total.item() == pytest.approx(expected / 3, rel=1e-6)
    threshold = Objective(batch_margin="batch_threshold")
    below = step_loss(out, step(), threshold, HEAD)  # the last pair alone is below 1
    expected = sum(
        by_hand([1.5, 0.0, 0.5], margin, 0.0, pair) for pair, margin in enumerate((0.0, 0.0, 1.0))
    )
    assert below.total.item() == pytest.approx(expected / 3, rel=1e-6)


def test_accuracies_with_and_without_the_margin() -> None:
    out = Scores(torch.tensor([[1.0, 0.0, 1.0]]), torch.zeros(1, 3, 3))  # differences 1, 0, 1
    measured = step_loss(out, step(margin=[2.0, -1.0, 0.5]), Objective(), HEAD).measured
    assert measured["accuracy"].item() == pytest.approx((1 + 0.5 + 1) / 3)
    assert measured["accuracy_with_margin"].item() == pytest.approx((0 + 1 + 1) / 3)
    assert measured["gap"].item() == pytest.approx(2 / 3)
    assert measured["score"].item() == pytest.approx((0.5 + 1.0 + 0.5) / 3)


def test_shared_texts_are_one_item_each() -> None:
    out, _ = scored(views=2)
    objective = Objective(contrastive="simcse", beta=0.7)
    plain = step_loss(out, step(), Objective(), HEAD).total
    found = step_loss(out, step(), objective, HEAD).total
    expected = plain + 0.7 * simcse_loss(out.features[0], out.features[1])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", ["simcse", "swav", "simcse-diff", "swav-diff"])
def test_the_gradient_norms_are_those_by_the_features(method: Any) -> None:
    out, features = scored(views=2)
    objective = Objective(contrastive=method, prototypes=2 if "swav" in method else None)
    prototypes = nn.Parameter(torch.eye(2, 3)) if "swav" in method else None
    measured = step_loss(out, step(), objective, HEAD, prototypes).measured
    ranking = step_loss(out, step(), Objective(), HEAD).total
    (expected,) = torch.autograd.grad(ranking, features, retain_graph=True)
    assert measured["ranking_gradient"].item() == pytest.approx(expected.norm().item(), rel=1e-5)
    total = step_loss(out, step(), objective, HEAD, prototypes).total
    (expected,) = torch.autograd.grad(total - ranking, features)
    assert measured["contrastive_gradient"].item() == pytest.approx(
        expected.norm().item(), rel=1e-4
    )
    assert measured["contrastive_loss"].item() == pytest.approx((total - ranking).item(), rel=1e-4)


def test_contrastive_numbers_are_the_papers_unless_named() -> None:
    options = contrastive_options(Objective(contrastive="swav-diff", tau=0.2))
    assert options is not None
    assert (options.beta, options.prototypes, options.tau) == (0.5, 20, 0.2)
    assert contrastive_options(Objective()) is None


def test_dev_is_measured_without_margins() -> None:
    out = Scores(torch.tensor([[2.0, 0.0, 1.0]]), torch.zeros(1, 3, 3))
    count, loss, right, score, gap = dev_sums(out, step(margin=[9.0, 9.0, 9.0])).tolist()
    assert (count, right, gap) == (3, 3, 2 + 1 + 1)
    assert loss == pytest.approx(math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1)))
    assert score == 1 + 1.5 + 0.5
