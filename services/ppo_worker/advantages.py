"""Rewards of tokens and their advantages; pure functions on tensors, with oracles in the tests.

Shapes: B completions, T tokens. A `completion_mask` is True for the tokens of a completion, its end
token included, and False for the padding on the right.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(
    rewards: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    completion_mask: Tensor,
    kl_coef: float,
) -> Tensor:
    """A penalty for leaving the reference on every token, and the reward on the last one.

        r_t = -eta * (log pi(a_t) - log pi_ref(a_t)),  r_T += r

    arXiv 2307.04964, Eq. 19: the estimator k1, of either sign on a single token.

    Args:
        rewards: one per completion, shape [B].
        logprobs: of the policy that sampled, shape [B, T].
        ref_logprobs: of the frozen reference, shape [B, T].
        completion_mask: shape [B, T], bool, at least one True in each row.
        kl_coef: eta, at least 0.

    Returns:
        Shape [B, T], 0 on padding.

    Raises:
        ValueError: shapes differ, or a completion has no token.
    """
    _check(completion_mask, logprobs, ref_logprobs)
    if rewards.shape != completion_mask.shape[:1] or not completion_mask.any(dim=1).all():
        raise ValueError("one reward per completion, and one token at least, are needed")
    rows = torch.where(completion_mask, -kl_coef * (logprobs - ref_logprobs), 0.0)
    last = completion_mask.sum(dim=1, keepdim=True) - 1
    return rows.scatter_add(1, last, rewards.to(rows).unsqueeze(1))


def generalised_advantages(
    rewards: Tensor, values: Tensor, completion_mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """GAE: how much better than expected each token turned out, and what to expect.

        delta_t = r_t + gamma * V_{t+1} - V_t,  A_t = sum_l (gamma * lambda)^l * delta_{t+l}

    with V = 0 after the last token; returns are A + V (arXiv 1506.02438, Eq. 16; 2307.04964).

    Args:
        rewards: shape [B, T].
        values: V before each token, shape [B, T].
        completion_mask: shape [B, T], bool.
        gamma: discount, in [0, 1].
        gae_lambda: in [0, 1]; 1 = Monte Carlo returns less V.

    Returns:
        Advantages and returns, each of shape [B, T] and 0 on padding.

    Raises:
        ValueError: shapes differ.
    """
    _check(completion_mask, rewards, values)
    rewards, values = (torch.where(completion_mask, x, 0.0) for x in (rewards, values))
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * following - values
    advantages = torch.zeros_like(deltas)
    carried = torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        carried = torch.where(completion_mask[:, t], deltas[:, t] + gamma * gae_lambda * carried, 0)
        advantages[:, t] = carried
    return advantages, advantages + values


def _check(completion_mask: Tensor, *tensors: Tensor) -> None:
    if completion_mask.dim() != 2 or completion_mask.dtype != torch.bool:
        raise ValueError("completion_mask must be [B, T] and bool")
    for tensor in tensors:
        if tensor.shape != completion_mask.shape:
            raise ValueError(
                f"shapes differ: {tuple(tensor.shape)} and {tuple(completion_mask.shape)}"
            )
