"""The losses of PPO and what is measured beside them; pure functions on tensors.

Shapes: B completions, T tokens, V words. Every mean is over the tokens that the mask holds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class PolicyLoss(NamedTuple):
    """The clipped policy loss.

    Attributes:
        loss: scalar, to be minimised.
        clip_fraction: share of tokens at which the clipped branch holds, so that no gradient flows.
    """

    loss: Tensor
    clip_fraction: Tensor


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    cliprange: float,
) -> PolicyLoss:
    """PPO's clipped surrogate (arXiv 1707.06347, Eq. 7).

        ratio = exp(logprob - old_logprob)
        loss = mean max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c))

    Args:
        logprobs: of the policy that learns, shape [B, T].
        old_logprobs: of the policy that sampled, shape [B, T].
        advantages: shape [B, T].
        completion_mask: shape [B, T], bool, not all False.
        cliprange: c, above 0.
    """
    ratio = torch.exp(torch.where(completion_mask, logprobs - old_logprobs, 0.0))
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return PolicyLoss(
        masked_mean(torch.maximum(free, clipped), completion_mask),
        masked_mean((clipped > free).float(), completion_mask),
    )


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    completion_mask: Tensor,
    cliprange_value: float,
) -> Tensor:
    """The clipped value loss (arXiv 2307.04964, section 5.3).

        loss = 0.5 * mean max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)

    Args:
        values: V of the critic that learns, shape [B, T].
        old_values: V when the completions were sampled, shape [B, T].
        returns: R, shape [B, T].
        completion_mask: shape [B, T], bool, not all False.
        cliprange_value: c, above 0.

    Returns:
        A scalar.
    """
    near = torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)
    worse = torch.maximum((values - returns) ** 2, (near - returns) ** 2)
    return 0.5 * masked_mean(worse, completion_mask)


def language_loss(logits: Tensor, ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Negative log-likelihood of texts: PPO-ptx against forgetting (arXiv 2203.02155, Eq. 2).

    Args:
        logits: shape [B, T, V].
        ids: shape [B, T].
        attention_mask: shape [B, T], 0 on padding.

    Returns:
        The mean over all tokens but each text's first, a scalar.
    """
    logprobs = token_logprobs(logits[:, :-1], ids[:, 1:])
    return -masked_mean(logprobs, attention_mask[:, 1:].bool())


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of the given words: logits [B, T, V] and ids [B, T] to [B, T]."""
    flat = functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
    return -flat.view(ids.shape)


def entropy(logits: Tensor) -> Tensor:
    """Of each next-word distribution, in nats: [B, T, V] to [B, T]."""
    logprobs = functional.log_softmax(logits.float(), dim=-1)
    return -(logprobs.exp() * logprobs).sum(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean where the mask is True; what stands elsewhere, NaN included, has no part in it."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()
