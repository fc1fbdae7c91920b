"""Completions of the base policy, which contrastive rewards are measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from assay.errors import DataError
from assay.schemas.text import Prompt
from ppo_worker.rollout import Rollout
from ppo_worker.settings import PPOSettings
from ppo_worker.setup import Setup


def baseline_policy(settings: PPOSettings, location: str) -> str:
    """The name of a base policy: another model, or other sampling, has other baselines."""
    what = (location, settings.temperature, settings.top_p, settings.max_new_tokens)
    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:8]
    return f"{settings.policy_name}.base.{digest}"


def store_baselines(setup: Setup, prompts: Sequence[Prompt]) -> int:
    """Sample and store baselines of the prompts that have none.

    What a prompt gets does not depend on which others have theirs already.

    Args:
        setup: the reference of its policy is sampled.
        prompts: distinct ones.

    Returns:
        How many prompts had none.

    Raises:
        DataError: the base policy has nothing to say to a prompt.
    """
    settings, source, stored = setup.settings, setup.source, 0
    at_once = max(1, settings.micro_batch // settings.baselines)
    for start in range(0, len(prompts), at_once):
        part = prompts[start : start + at_once]
        lacking = [index for index, prompt in enumerate(part) if source.lacks_baselines(prompt)]
        if lacking:
            with setup.policy.reference() as base:
                drawn = setup.sample(base, part, settings.baselines, "baselines", start)
            source.put_baselines([(part[i], _texts(drawn, i)) for i in lacking])
            stored += len(lacking)
    return stored


def _texts(drawn: Rollout, index: int) -> list[str]:
    texts = [drawn.texts[row] for row in drawn.group(index) if drawn.texts[row]]
    if not texts:
        raise DataError(
            "the base policy ends at once on a prompt, so that it has no baseline: raise "
            "baselines, or leave the prompt out"
        )
    return texts
