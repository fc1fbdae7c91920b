"""The policy against the base policy on prompts that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import pstdev
from typing import TypeVar

from assay.errors import ScoringError
from ppo_worker.metrics import Evaluation, mean
from ppo_worker.rollout import Rollout
from ppo_worker.setup import Setup

T = TypeVar("T")


def evaluate(setup: Setup, step: int, base: Evaluation | None) -> Evaluation:
    """Sample with the same random numbers at every step, and have one version score both.

    Args:
        setup: its policy is measured on its held-out prompts.
        step: steps learned.
        base: the measurement at step 0; None = this is it.

    Raises:
        ScoringError: the policy's completions or the base policy's have no score at all.
    """
    size, prompts = setup.settings.held_out_completions, setup.prompts.held_out
    own = setup.sample(setup.policy.model, prompts, size, "held out", 0)
    measured = setup.measure(own.tokens)
    completions, finished = _by_group(own, own.texts), _by_group(own, own.finished)
    length = own.tokens.lengths.double().mean().item()
    both = _joined(own, base.completions, base.finished) if base else own
    rewarded = setup.source.scores(both)
    scores = _present(rewarded.scores, both, slice(0, size))
    base_scores = _present(rewarded.scores, both, slice(size, None)) if base else scores
    return Evaluation(
        step=step,
        model_version=rewarded.model_version,
        score=mean(scores),
        base_score=mean(base_scores),
        base_std=pstdev(base_scores),
        length=length,
        base_length=base.length if base else length,
        kl=(measured.logprobs - measured.ref_logprobs).sum(dim=1).mean().item(),
        unscored=len(own.texts) - len(scores),
        prompts=list(prompts),
        completions=completions,
        finished=finished,
    )


def _by_group(rollout: Rollout, values: Sequence[T]) -> list[list[T]]:
    return [[values[row] for row in rollout.group(index)] for index in range(len(rollout.prompts))]


def _joined(
    own: Rollout, completions: Sequence[list[str]], finished: Sequence[list[bool]]
) -> Rollout:
    """Groups of the policy's completions, each followed by the base policy's."""
    texts = zip(_by_group(own, own.texts), completions, strict=True)
    ends = zip(_by_group(own, own.finished), finished, strict=True)
    return replace(
        own,
        size=2 * own.size,
        texts=[text for ours, theirs in texts for text in (*ours, *theirs)],
        finished=[end for ours, theirs in ends for end in (*ours, *theirs)],
    )


def _present(scores: Sequence[float | None], rollout: Rollout, part: slice) -> list[float]:
    """The scores of a part of each group, without those that are missing."""
    found = [score for group in _by_group(rollout, scores) for score in group[part]]
    present = [score for score in found if score is not None]
    if not present:
        raise ScoringError("no completion on a held-out prompt has a score")
    return present
