"""From a rollout and its rewards to what the policy learns from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppo_worker.advantages import generalised_advantages, token_rewards
from ppo_worker.policy import Measured, Policy, measure
from ppo_worker.settings import PPOSettings
from ppo_worker.tokens import Tokens, in_parts


@dataclass(frozen=True)
class Experience:
    """Completions that have a reward, and what is to be learned from them; [B, T] but for tokens.

    Attributes:
        tokens: prompts and completions.
        measured: policy, reference and critic as they were when the completions were sampled.
        rewards: of each token.
        advantages: by GAE.
        returns: what the critic should have said.
    """

    tokens: Tokens
    measured: Measured
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


def make_experience(
    tokens: Tokens,
    measured: Measured,
    rewards: Tensor,
    finished: Tensor,
    settings: PPOSettings,
) -> Experience:
    """Put rewards on tokens and estimate advantages.

    Args:
        tokens: B completions.
        measured: of the same ones.
        rewards: normalised, one a completion, shape [B].
        finished: False = without an end token, shape [B].
        settings: the coefficients.
    """
    mask = tokens.completion_mask
    rewards = rewards - settings.missing_eos_penalty * (~finished).to(rewards)
    per_token = token_rewards(
        rewards.to(measured.logprobs),
        measured.logprobs,
        measured.ref_logprobs,
        mask,
        settings.kl_coef,
    )
    advantages, returns = generalised_advantages(
        per_token, measured.values, mask, settings.gamma, settings.gae_lambda
    )
    return Experience(tokens, measured, per_token, advantages, returns)


def measure_all(policy: Policy, tokens: Tokens, at_once: int) -> Measured:
    """`measure` in parts; what stands on padding is 0."""
    parts = []
    for rows in in_parts(torch.arange(len(tokens)), at_once):
        part = tokens.rows(rows)
        columns = tokens.width - part.width
        measured = measure(policy, part.to(policy.model.device))
        parts.append([_widened(x, part.completion_mask, columns) for x in measured])
    return Measured(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _widened(values: Tensor, mask: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(torch.where(mask, values.cpu(), 0.0), (0, columns))
