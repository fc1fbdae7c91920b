"""The updates of one step: minibatches of clipped losses, one optimizer step each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.errors import ScoringError
from ppo_worker.experience import Experience
from ppo_worker.losses import language_loss, masked_mean, policy_loss, token_logprobs, value_loss
from ppo_worker.metrics import mean
from ppo_worker.ptx import Texts
from ppo_worker.seeds import generator
from ppo_worker.setup import Setup
from ppo_worker.tokens import in_parts

_BETAS = 0.9, 0.95


class Learned(NamedTuple):
    """Means over the minibatches of a step; None = that loss had no part in it."""

    policy_loss: float | None
    value_loss: float
    clip_fraction: float | None
    ptx_loss: float | None
    gradient: float
    update_kl: float


class _Losses(NamedTuple):
    """Of one minibatch, before their weights."""

    policy: float
    clipped: float
    value: float
    ptx: float
    gradient: float


class Learner:
    """Owns the optimizer.

    Args:
        setup: its policy is changed in place.
        texts: for the loss against forgetting, or None.
    """

    def __init__(self, setup: Setup, texts: Texts | None) -> None:
        self._policy, self._accelerator = setup.policy, setup.accelerator
        self._settings, self._texts = setup.settings, texts
        policy, settings = setup.policy, setup.settings
        self._optimizer = torch.optim.AdamW(
            [
                {"params": policy.trained_parameters(), "lr": settings.policy_learning_rate},
                {"params": policy.value_head.parameters(), "lr": settings.value_learning_rate},
            ],
            betas=_BETAS,
            weight_decay=0.0,
        )

    def state(self) -> dict[str, Any]:
        """Of the optimizer."""
        return self._optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """What `state` gave."""
        self._optimizer.load_state_dict(state)

    def learn(self, batch: Experience, step: int) -> Learned:
        """All updates of a step; in the first ones the value head learns alone.

        Raises:
            ScoringError: a loss, a gradient or the policy afterwards is not finite.
        """
        settings = self._settings
        alone = self._alone(step)
        seen: list[_Losses] = []
        for epoch in range(settings.epochs):
            number = (step - 1) * settings.epochs + epoch
            numbers = generator(settings.seed, "minibatches", number)
            order = torch.randperm(len(batch.tokens), generator=numbers)
            for rows in in_parts(order, settings.mini_batch):
                seen.append(self._update(batch, rows, step, len(seen)))
        update_kl = self._update_kl(batch, order[: settings.micro_batch])
        if not math.isfinite(update_kl):
            raise _not_finite(step, "the policy after it")
        ptx = None if alone or self._texts is None else mean([one.ptx for one in seen])
        return Learned(
            None if alone else mean([one.policy for one in seen]),
            mean([one.value for one in seen]),
            None if alone else mean([one.clipped for one in seen]),
            ptx,
            mean([one.gradient for one in seen]),
            update_kl,
        )

    def _alone(self, step: int) -> bool:
        """Whether the critic learns alone: a policy that it cannot judge would follow noise."""
        return step <= self._settings.critic_steps

    def _update(self, batch: Experience, rows: Tensor, step: int, update: int) -> _Losses:
        self._optimizer.zero_grad(set_to_none=True)
        alone = self._alone(step)
        tokens = int(batch.tokens.lengths[rows].sum())
        parts = [
            self._backward(batch, part, alone, tokens)
            for part in in_parts(rows, self._settings.micro_batch)
        ]
        policy, clipped, value = (sum(column) for column in zip(*parts, strict=True))
        ptx = 0.0 if alone else self._backward_texts(step, update)
        gradient = float(
            self._accelerator.clip_grad_norm_(
                self._policy.parameters(), self._settings.max_grad_norm
            )
        )
        if not math.isfinite(policy + value + ptx + gradient):
            raise _not_finite(step, "a loss or its gradient")
        self._optimizer.step()
        return _Losses(policy, clipped, value, ptx, gradient)

    def _backward(
        self, batch: Experience, rows: Tensor, alone: bool, tokens: int
    ) -> tuple[float, float, float]:
        """Gradients of a part of a minibatch, weighted by its share of the tokens."""
        settings, device = self._settings, self._accelerator.device
        part = batch.tokens.rows(rows)
        share = int(part.lengths.sum()) / tokens
        part = part.to(device)

        def own(values: Tensor) -> Tensor:
            return values[rows, : part.width].to(device)

        mask, measured = part.completion_mask, batch.measured
        if alone:
            with torch.no_grad(), self._accelerator.autocast():
                hidden = self._policy(part).hidden
            values = self._policy.value_head(hidden).squeeze(-1)
            loss = value_loss(values, own(measured.values), own(batch.returns), mask, math.inf)
            self._accelerator.backward(share * loss)
            return 0.0, 0.0, share * loss.item()
        with self._accelerator.autocast():
            predicted = self._policy(part)
        logprobs = token_logprobs(predicted.logits, part.completions)
        advantages = own(batch.advantages)
        policy = policy_loss(logprobs, own(measured.logprobs), advantages, mask, settings.cliprange)
        value = value_loss(
            predicted.values,
            own(measured.values),
            own(batch.returns),
            mask,
            settings.cliprange_value,
        )
        self._accelerator.backward(share * (policy.loss + settings.vf_coef * value))
        clipped = policy.clip_fraction.item()
        return share * policy.loss.item(), share * clipped, share * value.item()

    def _backward_texts(self, step: int, update: int) -> float:
        if self._texts is None:
            return 0.0
        ids, mask = self._texts.batch(self._settings.micro_batch, step, update)
        device = self._accelerator.device
        with self._accelerator.autocast():
            logits = self._policy.model(ids.to(device), attention_mask=mask.to(device)).logits
        loss = language_loss(logits, ids.to(device), mask.to(device))
        self._accelerator.backward(self._settings.ptx_coef * loss)
        return loss.item()

    @torch.no_grad()
    def _update_kl(self, batch: Experience, rows: Tensor) -> float:
        part = batch.tokens.rows(rows).to(self._accelerator.device)
        with self._accelerator.autocast():
            logits = self._policy(part).logits
        before = batch.measured.logprobs[rows, : part.width].to(logits)
        after = token_logprobs(logits, part.completions)
        return masked_mean(before - after, part.completion_mask).item()


def _not_finite(step: int, what: str) -> ScoringError:
    return ScoringError(
        f"step {step}: {what} is not finite; the checkpoint of the step before is kept: lower the "
        "learning rates"
    )
