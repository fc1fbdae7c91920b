"""The update rules of MetaRM, one step of one member at a time.

MetaRM (arXiv 2401.06080 Alg. 1, 2405.00438 Alg. 1) ascends the difference loss J on samples of the
current policy, takes the gradient of the ranking loss there, and applies it to the weights before
the ascent. What that does depends on the state of the optimizer, of which the paper says nothing:
the rule is therefore named, and each says what it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from assay.errors import ScoringError
from reward_trainer.online.options import OptimizerName, RuleName, RuleOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RULES", "Learner", "Measured", "RuleName", "RuleOptions", "update"]

Objective = Callable[[], Tensor]
"""Evaluates a scalar, with its graph, at the weights as they are at the call."""

Gradients = list[Tensor | None]


@dataclass(frozen=True)
class Measured:
    """One step as it was seen before its weights changed.

    Attributes:
        loss: ranking loss, at the ascended weights for `literal` and `shared_moments`.
        separation: J, at the weights before the step.
        loss_gradient: norm of the ranking loss's gradient, before clipping.
        separation_gradient: norm of J's gradient; 0 for `vanilla`, which does not take it.
    """

    loss: float
    separation: float
    loss_gradient: float
    separation_gradient: float


class Learner:
    """The weights of one member and the optimizers that move them.

    Args:
        params: what is trained.
        options: says which optimizers.
    """

    def __init__(self, params: Sequence[nn.Parameter], options: RuleOptions) -> None:
        self.params = list(params)
        self.options = options
        self.optimizer = _optimizer(options.optimizer, self.params, options.learning_rate, options)
        self.ascent = _optimizer(options.ascent, self.params, options.ascent_rate, options)

    def snapshot(self) -> list[Tensor]:
        """A copy of the weights."""
        return [param.detach().clone() for param in self.params]

    @torch.no_grad()
    def restore(self, snapshot: Sequence[Tensor]) -> None:
        """Put the weights of a snapshot back, bit for bit."""
        for param, value in zip(self.params, snapshot, strict=True):
            param.copy_(value)

    def state(self) -> dict[str, Any]:
        """The state of both optimizers, for a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "ascent": self.ascent.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.ascent.load_state_dict(state["ascent"])

    def gradients(self, name: str, objective: Objective) -> tuple[float, Gradients]:
        """An objective's value and gradients.

        Raises:
            ScoringError: one of them is not finite; no weight has changed since the step began
                that the caller does not put back.
        """
        value = objective()
        found: Gradients = [*torch.autograd.grad(value, self.params, allow_unused=True)]
        if not value.isfinite() or not _norm(found).isfinite():
            raise ScoringError(f"the {name} or its gradient is not finite: no step was taken")
        return float(value.detach()), found

    def descend(self, gradients: Gradients) -> None:
        """One step of the optimizer with clipped gradients."""
        _step(self.optimizer, self.params, gradients, self.options.clip_norm)

    @contextmanager
    def ascended(self, optimizer: Optimizer, gradients: Gradients, rate: float) -> Iterator[None]:
        """Weights one step up along the gradients; afterwards they are as they were, bit for bit.

        The optimizer's state is not put back: which optimizer it is makes the rule.
        """
        before = self.snapshot()
        up = [None if gradient is None else -gradient for gradient in gradients]
        clip_norm = self.options.clip_norm if optimizer is self.optimizer else None
        try:
            with _changed(optimizer, lr=rate, weight_decay=0.0):  # decay is no part of J
                _step(optimizer, self.params, up, clip_norm)
            yield
        finally:
            self.restore(before)


def vanilla(learner: Learner, loss: Objective, separation: Objective) -> Measured:
    """Descend the ranking loss L alone. J is measured and has no influence."""
    with torch.no_grad():
        separated = float(separation())
    if not math.isfinite(separated):
        raise ScoringError("the difference loss is not finite: no step was taken")
    value, gradients = learner.gradients("ranking loss", loss)
    learner.descend(gradients)
    return Measured(value, separated, float(_norm(gradients)), 0.0)


def literal(learner: Learner, loss: Objective, separation: Objective) -> Measured:
    """Algorithm 1 as printed: `theta <- theta - alpha grad L(theta + eta grad J)`.

    The ascent has an optimizer of its own (plain gradient ascent, unless the options say
    otherwise), so that with eta = 0 a step is vanilla's bit for bit. To first order the gradient is
    `grad L + eta H_L grad J`: since H_L is positive semidefinite where the network is near linear,
    the step makes J slightly smaller than vanilla's does, not larger as the paper has it.
    """
    return _meta_step(learner, learner.ascent, loss, separation)


def shared_moments(learner: Learner, loss: Objective, separation: Objective) -> Measured:
    """Algorithm 1 with one optimizer for both steps, whose moments keep J's gradient.

    Weights are put back after the ascent, moments are not, so that the descent goes along J too,
    however small eta is: with Adam the update hardly depends on eta, and eta = 0 is not vanilla.
    Without moments (sgd) it is `literal`.
    """
    return _meta_step(learner, learner.optimizer, loss, separation)


def joint(learner: Learner, loss: Objective, separation: Objective) -> Measured:
    """Descend `L - lambda J` in one step."""
    separated, up = learner.gradients("difference loss", separation)
    value, down = learner.gradients("ranking loss", loss)
    weight = learner.options.joint_weight
    learner.descend([_minus(d, u, weight) for d, u in zip(down, up, strict=True)])
    return Measured(value, separated, float(_norm(down)), float(_norm(up)))


Rule = Callable[[Learner, Objective, Objective], Measured]
RULES: Mapping[RuleName, Rule] = {
    "vanilla": vanilla,
    "literal": literal,
    "shared_moments": shared_moments,
    "joint": joint,
}


def update(learner: Learner, loss: Objective, separation: Objective) -> Measured:
    """One step of a member by the rule of its options.

    Args:
        learner: weights and optimizers; changed in place.
        loss: mean ranking loss of a batch of preference pairs, minimised.
        separation: mean J of a batch of groups, with dropout off; maximised.

    Raises:
        ScoringError: a value or gradient is not finite; the weights are unchanged.
    """
    return RULES[learner.options.rule](learner, loss, separation)


def _meta_step(
    learner: Learner, optimizer: Optimizer, loss: Objective, separation: Objective
) -> Measured:
    separated, up = learner.gradients("difference loss", separation)
    with learner.ascended(optimizer, up, learner.options.ascent_rate):
        value, down = learner.gradients("ranking loss", loss)
    learner.descend(down)
    return Measured(value, separated, float(_norm(down)), float(_norm(up)))


def _optimizer(
    name: OptimizerName, params: Sequence[nn.Parameter], rate: float, options: RuleOptions
) -> Optimizer:
    if name == "sgd":
        return SGD(params, lr=rate, weight_decay=options.weight_decay)
    return AdamW(params, lr=rate, weight_decay=options.weight_decay)


def _step(
    optimizer: Optimizer,
    params: Sequence[nn.Parameter],
    gradients: Gradients,
    clip_norm: float | None,
) -> None:
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = None if gradient is None else gradient.detach().clone()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(params, clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def _changed(optimizer: Optimizer, **options: float) -> Iterator[None]:
    before = [{name: group[name] for name in options} for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group.update(options)
    try:
        yield
    finally:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            group.update(old)


def _minus(down: Tensor | None, up: Tensor | None, weight: float) -> Tensor | None:
    if up is None:
        return down
    return -weight * up if down is None else down - weight * up


def _norm(gradients: Gradients) -> Tensor:
    squares = [g.detach().double().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
