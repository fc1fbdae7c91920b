"""Contrastive rewards of a group: the stored baselines, and the scores over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import ConflictError
from assay.rewards.aggregate import Values, aggregate, or_none, spread
from assay.rewards.contrastive import contrastive, leave_one_out, reduce
from assay.schemas.scoring import Baseline, BaselineSource, ContrastiveOptions, GroupRewards

if TYPE_CHECKING:
    from assay.schemas.text import Completion, Prompt
    from reward_server.runtime import Runtime


async def find_stored(
    runtime: Runtime, wanted: Sequence[tuple[str, Prompt]], policy: str | None
) -> list[list[Completion]]:
    """The stored baselines of prompts, each with its place in the request; [] = there are none.

    Raises:
        ConflictError: there are those of several policies, and none is named.
        DependencyError: Redis is needed and down.
    """
    sets = await runtime.baselines.fetch_many([prompt for _, prompt in wanted], policy)
    for (path, _), policies in zip(wanted, sets, strict=True):
        if len(policies) > 1:
            names = ", ".join(sorted(policies))
            raise ConflictError(f"{path} has baselines of several policies ({names}): name one")
    return [next(iter(policies.values()), []) for policies in sets]


def group_rewards(
    options: ContrastiveOptions, scores: Values, source: BaselineSource, baselines: Values
) -> GroupRewards:
    """What the completions of one group gain over its baselines, or over one another.

    Args:
        options: which statistic, shape and aggregate.
        scores: of the completions, shape [completions, members]; NaN = no score, and no reward.
        source: where the baselines come from; `leave_one_out` = the other completions.
        baselines: their scores, shape [baselines, members]; one of NaN is left out.
    """
    has_score = ~np.isnan(scores).any(axis=1)
    is_own = source == "leave_one_out"
    compared = scores[has_score] if is_own else baselines[~np.isnan(baselines).any(axis=1)]
    count = len(compared) - is_own
    rewards = np.full_like(scores, np.nan)
    if is_own and count > 0:
        rewards[has_score] = leave_one_out(compared, options.statistic, options.shape)
    elif count > 0 and has_score.any():
        rewards[has_score] = contrastive(
            scores[has_score], compared, options.statistic, options.shape
        )
    return GroupRewards(
        rewards=or_none(aggregate(rewards, options.aggregate, options.lcb_k)),
        scores=or_none(scores.mean(axis=1)),
        std=or_none(spread(rewards)) if rewards.shape[1] > 1 else None,
        baseline=_baseline(options, compared, count, source) if count > 0 else None,
        **({"members": or_none(rewards)} if options.members else {}),
    )


def _baseline(
    options: ContrastiveOptions, compared: Values, count: int, source: BaselineSource
) -> Baseline:
    return Baseline(
        value=float(reduce(compared, options.statistic).mean()),
        std=float(compared.mean(axis=1).std()),
        count=count,
        source=source,
    )
