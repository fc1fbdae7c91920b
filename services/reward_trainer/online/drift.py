"""How the scores of a policy's samples look: the signals by which drift shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from assay.models.inputs import as_completion_text
from reward_trainer.evaluate.statistics import Array
from reward_trainer.gate.rules import within_prompts
from reward_trainer.online.groups import Group


class Drift(BaseModel):
    """Signals of one policy in one batch.

    Attributes:
        groups: how many it had there.
        variance: of the difference of two completions' scores, over pairs within groups; it falls
            as a policy leaves what the reward model can tell apart (arXiv 2405.00438, Fig. 1).
        disagreement: mean over those pairs of the members' standard deviation; None for one member.
        length_correlation: Spearman of score and length within groups; None if all are of a length.
    """

    model_config = ConfigDict(frozen=True)

    groups: int
    variance: float
    disagreement: float | None
    length_correlation: float | None


def drift_by_policy(groups: Sequence[Group], scores: Sequence[Array]) -> dict[str, Drift]:
    """The signals of each policy among some groups.

    Args:
        groups: at least one.
        scores: of each group's completions, shape [k, members].
    """
    by_policy: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        by_policy.setdefault(group.policy, []).append(index)
    return {
        policy: _drift([groups[i] for i in rows], [scores[i] for i in rows])
        for policy, rows in sorted(by_policy.items())
    }


def _drift(groups: Sequence[Group], scores: Sequence[Array]) -> Drift:
    gaps = np.concatenate([differences(own) for own in scores])
    lengths = [len(as_completion_text(c)) for group in groups for c in group.completions]
    ends = np.cumsum([len(own) for own in scores])
    rows = [np.arange(end - len(own), end) for own, end in zip(scores, ends, strict=True)]
    several = gaps.shape[1] > 1
    return Drift(
        groups=len(groups),
        variance=float(np.square(gaps.mean(axis=1)).mean()),
        disagreement=float(gaps.std(axis=1).mean()) if several else None,
        length_correlation=within_prompts(
            np.concatenate(scores).mean(axis=1), np.array(lengths, float), rows
        ),
    )


def differences(scores: Array) -> Array:
    """Differences of the scores of each two completions, shape [pairs, members]."""
    first, second = np.triu_indices(len(scores), k=1)
    found: Array = scores[first] - scores[second]
    return found
