"""Contrastive rewards of a group: the stored baselines, and the scores over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.errors import ConflictError
from assay.rewards.aggregate import Values, aggregate, spread
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
        scores: of the completions, shape [completions, members].
        source: where the baselines come from; `leave_one_out` = the other completions.
        baselines: their scores, shape [baselines, members].
    """
    if source == "leave_one_out":
        rewards = leave_one_out(scores, options.statistic, options.shape)
        compared, count = scores, len(scores) - 1
    else:
        rewards = contrastive(scores, baselines, options.statistic, options.shape)
        compared, count = baselines, len(baselines)
    return GroupRewards(
        rewards=aggregate(rewards, options.aggregate, options.lcb_k).tolist(),
        scores=scores.mean(axis=1).tolist(),
        std=spread(rewards).tolist() if rewards.shape[1] > 1 else None,
        baseline=Baseline(
            value=float(reduce(compared, options.statistic).mean()),
            std=float(compared.mean(axis=1).std()),
            count=count,
            source=source,
        ),
        **({"members": rewards.tolist()} if options.members else {}),
    )
