from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import InvalidInputError, StartupError
from assay.objectives.contrastive_learning import CONTRASTIVE, contrastive_term
from assay.objectives.ranking import ranking_loss
from assay.objectives.simcse import simcse_loss
from assay.objectives.swav import random_prototypes, sinkhorn, swav_loss
from assay.objectives.views import difference_items, pair_items

METHODS = sorted(CONTRASTIVE)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def term(method: str, first: Tensor, second: Tensor, training: bool = True) -> Tensor:
    """The term of views of shape [2, B, D]: chosen and rejected."""
    options = CONTRASTIVE[method]
    prototypes = None
    if options.prototypes is not None:
        generator = torch.Generator().manual_seed(3)
        prototypes = random_prototypes(options.prototypes, first.shape[-1], generator)
    return contrastive_term(
        (first[0], first[1]), (second[0], second[1]), options, prototypes, training=training
    )


# --- items and views


def test_items_of_pairs_are_both_completions_and_of_differences_both_orders() -> None:
    chosen, rejected = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[0.0, 5.0], [1.0, 1.0]]),
    )
    assert pair_items(chosen, rejected).tolist() == [[1, 2], [3, 4], [0, 5], [1, 1]]
    assert difference_items(chosen, rejected).tolist() == [[1, -3], [2, 3], [-1, 3], [-2, -3]]


@pytest.mark.parametrize("items", [pair_items, difference_items])
def test_embeddings_of_other_shapes_or_types_are_refused(
    items: Callable[[Tensor, Tensor], Tensor],
) -> None:
    with pytest.raises(ValueError, match=r"embeddings of one shape \[N, D\]"):
        items(torch.zeros(4, 3), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"embeddings of one shape \[N, D\]"):
        items(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match="floating point"):
        items(torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.long))


@pytest.mark.parametrize("method", METHODS)
def test_views_of_a_real_dropout_differ_in_training_and_agree_in_evaluation(method: str) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.05), nn.Linear(16, 8))
    batch = torch.randn(2, 4, 8)
    assert term(method, encoder(batch), encoder(batch)).isfinite()
    encoder.eval()
    assert term(method, encoder(batch), encoder(batch), training=False).isfinite()
    with pytest.raises(StartupError, match="set a dropout above 0"):
        term(method, encoder(batch), encoder(batch))


# --- SimCSE


@pytest.mark.parametrize("items", [2, 4, 32])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_simcse_of_items_that_look_alike_is_the_log_of_their_number(items: int, tau: float) -> None:
    views = torch.ones(items, 3, dtype=torch.float64)
    loss = simcse_loss(views, 2 * views, tau=tau)
    assert loss.item() == pytest.approx(math.log(items), abs=1e-12)


@pytest.mark.parametrize(("items", "loss"), [(4, 0.7436684), (16, 1.8745970), (32, 2.5180402)])
def test_simcse_of_orthogonal_items_with_equal_views(items: int, loss: float) -> None:
    views = torch.eye(items, dtype=torch.float64)
    found = simcse_loss(views, views, tau=1.0, training=False)
    assert found.item() == pytest.approx(loss, abs=1e-7)  # ln(1 + (N - 1) / e)
    colder = simcse_loss(views, views, tau=0.05, training=False)
    assert colder.item() == pytest.approx(math.log1p((items - 1) * math.exp(-20)), rel=1e-5)


def test_simcse_is_the_loop_over_items() -> None:
    first, second = random(6, 5), random(6, 5, seed=1)

    def cosine(i: int, j: int) -> float:
        s, t = first[i].numpy(), second[j].numpy()
        return float(s @ t / np.linalg.norm(s) / np.linalg.norm(t))

    losses = [
        -math.log(
            math.exp(cosine(i, i) / 0.3) / sum(math.exp(cosine(i, j) / 0.3) for j in range(6))
        )
        for i in range(6)
    ]
    assert simcse_loss(first, second, tau=0.3).item() == pytest.approx(np.mean(losses), abs=1e-12)


def test_simcse_survives_items_without_a_direction() -> None:
    first, second = torch.zeros(3, 4, requires_grad=True), torch.ones(3, 4)
    loss = simcse_loss(first, second)
    (gradient,) = torch.autograd.grad(loss, first)
    assert loss.item() == pytest.approx(math.log(3))
    assert gradient.isfinite().all()


# --- SwAV


def test_sinkhorn_is_the_loop_over_a_matrix() -> None:
    """The published order of steps: rows to 1/K, columns to 1/N, on exp(scores / epsilon)."""
    scores = torch.nn.functional.normalize(random(7, 4), dim=1).numpy()
    q = np.exp(scores / 0.05).T
    q /= q.sum()
    for _ in range(3):
        for k in range(4):
            q[k] /= q[k].sum() * 4
        for n in range(7):
            q[:, n] /= q[:, n].sum() * 7
    np.testing.assert_allclose(sinkhorn(torch.tensor(scores)).numpy(), (q * 7).T, rtol=1e-10)


def test_items_sum_to_1_and_prototypes_near_their_share_with_more_iterations() -> None:
    items = torch.nn.functional.normalize(random(32, 16), dim=1)
    scores = items @ torch.nn.functional.normalize(random(20, 16, seed=1), dim=1).T
    off = []
    for iterations in (3, 30, 300):
        q = sinkhorn(scores, iterations=iterations)
        torch.testing.assert_close(q.sum(dim=1), torch.ones(32, dtype=torch.float64))
        off.append((q.sum(dim=0) - 32 / 20).abs().max().item())
    assert 0.01 < off[0] < 1.0
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.01


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_sinkhorn_of_bfloat16_is_float32_and_neither_overflows_nor_vanishes(scale: float) -> None:
    scores = (scale * random(32, 20)).to(torch.bfloat16)
    q = sinkhorn(scores)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q.sum(dim=1), torch.ones(32))
    torch.testing.assert_close(q, sinkhorn(scores.double()).float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("count", [2, 20, 50])
def test_swav_where_nothing_tells_prototypes_apart_is_twice_the_log_of_their_number(
    count: int,
) -> None:
    prototypes = torch.ones(count, 5, dtype=torch.float64)
    loss = swav_loss(random(8, 5), random(8, 5, seed=1), prototypes)
    assert loss.item() == pytest.approx(2 * math.log(count), abs=1e-12)


def test_swav_is_the_loop_over_items() -> None:
    first, second, prototypes = random(6, 5), random(6, 5, seed=1), random(3, 5, seed=2)

    def unit(rows: Tensor) -> np.ndarray:
        return np.array([row / np.linalg.norm(row) for row in rows.numpy()])

    s, t = unit(first) @ unit(prototypes).T, unit(second) @ unit(prototypes).T
    q_s, q_t = sinkhorn(torch.tensor(s)).numpy(), sinkhorn(torch.tensor(t)).numpy()
    total = 0.0
    for i in range(6):
        p_s = np.exp(s[i] / 0.2) / np.exp(s[i] / 0.2).sum()
        p_t = np.exp(t[i] / 0.2) / np.exp(t[i] / 0.2).sum()
        total -= (q_s[i] * np.log(p_t)).sum() + (q_t[i] * np.log(p_s)).sum()
    found = swav_loss(first, second, prototypes, tau=0.2)
    assert found.item() == pytest.approx(total / 6, abs=1e-12)


def test_swav_takes_the_direction_of_prototypes_alone() -> None:
    first, second, prototypes = random(6, 5), random(6, 5, seed=1), random(3, 5, seed=2)
    lengths = torch.tensor([[0.01], [1.0], [300.0]])
    torch.testing.assert_close(
        swav_loss(first, second, lengths * prototypes), swav_loss(first, second, prototypes)
    )


def test_swav_trains_items_and_prototypes_and_never_through_the_assignment() -> None:
    first, second = random(6, 5), random(6, 5, seed=1)
    prototypes = random(3, 5, seed=2).requires_grad_()
    loss = swav_loss(first.requires_grad_(), second.requires_grad_(), prototypes)
    for gradient in torch.autograd.grad(loss, (first, second, prototypes)):
        assert gradient.abs().max() > 0
    assert not sinkhorn(first).requires_grad


def test_prototypes_start_with_unit_length_from_the_given_generator() -> None:
    made = [random_prototypes(20, 7, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(made[0], made[1])
    torch.testing.assert_close(made[0].norm(dim=1), torch.ones(20))
    for sizes in [(0, 3), (3, 0)]:
        with pytest.raises(InvalidInputError):
            random_prototypes(*sizes)


# --- both


@pytest.mark.parametrize("method", METHODS)
def test_terms_ignore_the_length_of_embeddings(method: str) -> None:
    first, second = random(2, 8, 16), random(2, 8, 16, seed=1)
    torch.testing.assert_close(
        term(method, 5 * first, 0.2 * second), term(method, first, second), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("method", METHODS)
def test_terms_ignore_the_order_of_pairs(method: str) -> None:
    first, second = random(2, 8, 16), random(2, 8, 16, seed=1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        term(method, first[:, order], second[:, order]), term(method, first, second)
    )


@pytest.mark.parametrize("method", METHODS)
def test_terms_of_bfloat16_under_autocast_are_those_of_float32(method: str) -> None:
    first = random(2, 8, 16).to(torch.bfloat16)
    second = random(2, 8, 16, seed=1).to(torch.bfloat16)
    if method.endswith("diff"):  # a difference of bfloat16 is rounded before it gets here
        first[1], second[1] = 0, 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = term(method, first, second)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, term(method, first.float(), second.float()))


@pytest.mark.parametrize("method", ["simcse", "simcse-diff"])
def test_gradients_are_those_of_finite_differences(method: str) -> None:
    first, second = random(2, 3, 4).requires_grad_(), random(2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: term(method, s, t), (first, second))


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_0_leaves_the_ranking_gradient_to_the_last_bit(method: str) -> None:
    weights = random(5).requires_grad_()
    embeddings = random(2, 4, 5)
    options = replace(CONTRASTIVE[method], beta=0.0)
    prototypes = None if options.prototypes is None else random_prototypes(options.prototypes, 5)

    def gradient(contrastive: bool) -> Tensor:
        view = embeddings * weights
        loss = ranking_loss(view[0].sum(dim=1), view[1].sum(dim=1), reduction="mean")
        if contrastive:
            views = (view[0], view[1]), (view[0], view[1])
            loss = loss + contrastive_term(*views, options, prototypes, training=False)
        return torch.autograd.grad(loss, weights)[0]

    assert torch.equal(gradient(contrastive=True), gradient(contrastive=False))


def test_weights_and_temperatures_scale_the_term() -> None:
    first, second = random(2, 4, 8), random(2, 4, 8, seed=1)
    views = (first[0], first[1]), (second[0], second[1])
    whole = contrastive_term(*views, CONTRASTIVE["simcse"])
    half = contrastive_term(*views, replace(CONTRASTIVE["simcse"], beta=0.5))
    warm = contrastive_term(*views, replace(CONTRASTIVE["simcse"], tau=1.0))
    torch.testing.assert_close(half, whole / 2)
    torch.testing.assert_close(
        warm, simcse_loss(pair_items(*views[0]), pair_items(*views[1]), tau=1.0)
    )


def test_presets_are_the_published_ones() -> None:
    found = {name: (o.beta, o.prototypes) for name, o in CONTRASTIVE.items()}
    assert found == {
        "simcse": (1.0, None),
        "swav": (0.1, 50),
        "simcse-diff": (1.0, None),
        "swav-diff": (0.5, 20),
    }


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("simcse", {"beta": -0.1}),
        ("simcse", {"beta": math.nan}),
        ("simcse", {"tau": 0.0}),
        ("simcse", {"tau": math.inf}),
        ("simcse", {"prototypes": 50}),
        ("swav", {"prototypes": None}),
        ("swav", {"prototypes": 1}),
    ],
)
def test_options_out_of_range_are_refused(method: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        replace(CONTRASTIVE[method], **change)


def test_prototypes_that_do_not_fit_the_options_are_refused() -> None:
    views = (random(2, 4), random(2, 4)), (random(2, 4), random(2, 4))
    with pytest.raises(ValueError, match="20 prototypes are needed, not None"):
        contrastive_term(*views, CONTRASTIVE["swav-diff"])
    with pytest.raises(ValueError, match="None prototypes are needed, not 3"):
        contrastive_term(*views, CONTRASTIVE["simcse"], random(3, 4))


def test_wrong_tensors_and_temperatures_are_refused() -> None:
    first, second, prototypes = random(4, 3), random(4, 3, seed=1), random(5, 3)
    with pytest.raises(ValueError, match="embeddings"):
        simcse_loss(first, random(3, 3))
    with pytest.raises(ValueError, match="at least one item"):
        simcse_loss(first[:0], second[:0])
    for wrong in (random(5, 1), random(5), random(0, 3)):
        with pytest.raises(ValueError, match=r"prototypes of shape \[K, 3\]"):
            swav_loss(first, second, wrong)
    with pytest.raises(ValueError, match="prototypes must be floating point"):
        swav_loss(first, second, prototypes.long())
    wrong_options: list[dict[str, Any]] = [{"tau": 0.0}, {"epsilon": 0.0}, {"iterations": 0}]
    for options in wrong_options:
        with pytest.raises(InvalidInputError):
            swav_loss(first, second, prototypes, **options)
    with pytest.raises(InvalidInputError):
        simcse_loss(first, second, tau=-1.0)
    with pytest.raises(ValueError, match=r"scores of shape \[N, K\]"):
        sinkhorn(random(4))
    with pytest.raises(ValueError, match="floating point"):
        sinkhorn(torch.zeros(2, 2, dtype=torch.long))
