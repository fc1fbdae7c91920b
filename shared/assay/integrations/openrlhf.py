"""OpenRLHF's reward function: this file's path as `--reward.remote_url`.

The URL of the route `/get_reward` does the same without a file. The file takes a key from
`ASSAY_KEY`, keeps its connections, and can post samples. OpenRLHF has no word for "no score": it
is an error, after which the sample has no reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from assay.integrations.groups import Asked, plain
from assay.integrations.rewarding import Rewarder
from assay.integrations.settings import reward_settings
from assay.schemas.boundary import read_after


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **kwargs: Any
) -> dict[str, Any]:
    """Rewards of full texts, which hold their prompts and whatever special tokens.

    Args:
        queries: prompt and completion in one.
        prompts: the prompts alone.
        labels: one per query, for rules; or None.

    Returns:
        `rewards`; `scores` in (0, 1) for dynamic filtering: sigmoid(score / T), with T of the
        version's calibration; `extra_logs` with version and std.

    Raises:
        AssayError: no rewards, why, and what to do about it.
    """
    rows = [_row(*each) for each in zip(queries, prompts, labels, strict=True)]
    names = rows[0]["extra_logs"] if rows else ()
    return {
        "rewards": [row["rewards"] for row in rows],
        "scores": [row["scores"] for row in rows],
        "extra_logs": {name: [row["extra_logs"][name] for row in rows] for name in names},
    }


@cache
def _rewarder() -> Rewarder:
    return Rewarder(reward_settings())


def _row(query: str, prompt: str, label: Any) -> dict[str, Any]:
    rewarder = _rewarder()
    reading = read_after(prompt, query, rewarder.settings.text_rules)
    asked = Asked(
        plain(reading.prompt),
        [plain(reading.completion)],
        labels=None if label is None else [label],
        finished=[reading.finished],
    )
    (result,) = rewarder.reward([asked], raw=reading.raw)
    return {
        "rewards": result.only,
        "scores": result.probability(rewarder.temperature(result.model)),
        "extra_logs": result.figures,
    }
