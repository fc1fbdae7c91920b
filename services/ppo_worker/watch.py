"""What goes wrong in PPO without any error, seen in the records of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ppo_worker.metrics import StepRecord, mean

_BEFORE, _SPIKE, _LEAST_NATS, _NATS_PER_TOKEN = 5, 3.0, 3.0, 0.1
_WINDOW = 5
_LONGER, _LESS_PERPLEXED = 1.3, 0.7


def kl_spike(history: Sequence[StepRecord]) -> str | None:
    """The KL is several times the highest of the last steps, or 0.1 nats a token above it.

    A policy that leaves the reference at a steady pace has a KL that grows with the square of the
    steps at first, by less than a nat each: what is compared is the highest, not the usual, KL.
    """
    highest = max((record.kl for record in history[-1 - _BEFORE : -1]), default=0.0)
    now = history[-1].kl
    several_times = now >= max(_LEAST_NATS, _SPIKE * highest)
    if not several_times and now - highest < _NATS_PER_TOKEN * history[-1].length:
        return None
    return (
        f"the KL is {now:.3g} nats, before it was {highest:.3g} at most: lower the policy's "
        "learning rate, or raise kl_coef"
    )


def collapse(history: Sequence[StepRecord]) -> str | None:
    """Reward and length rise while perplexity falls: long, sure answers that please the model.

    arXiv 2307.04964, section 5.2: the pattern of a policy that has found the reward model's gaps.
    Length and perplexity are compared with the run's beginning, rewards within their version.
    """
    same = [record for record in history if record.model_version == history[-1].model_version]
    if len(same) < 2 * _WINDOW:
        return None
    first, last = history[:_WINDOW], same[-_WINDOW:]
    rise = _of(last, "reward") - _of(same[:_WINDOW], "reward")
    longer = _of(last, "length") / _of(first, "length")
    perplexity = _of(last, "perplexity") / _of(first, "perplexity")
    if rise <= 0 or longer < _LONGER or perplexity > _LESS_PERPLEXED:
        return None
    return (
        f"the reward is {rise:.3g} higher, completions are {longer:.2f} times as long, and their "
        f"perplexity is {perplexity:.2f} times what it was: read some, raise kl_coef, or stop"
    )


RULES: Mapping[str, Callable[[Sequence[StepRecord]], str | None]] = {
    rule.__name__: rule for rule in (kl_spike, collapse)
}


def _of(records: Sequence[StepRecord], name: str) -> float:
    return mean([getattr(record, name) for record in records])
