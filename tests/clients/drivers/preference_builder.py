"""The Tinker cookbook's pairwise group builder with Assay's preferences, by its environment.

Arguments: completions as JSON. Prints the reward of each as JSON. The policy is left out: its
renderer is one that has the text of a completion for tokens.
"""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Any

from rounds import rounds  # type: ignore[import-not-found]  # it lies beside this script
from tinker_cookbook.rl.preference_envs import (
    PairwisePreferenceGroupBuilder,
    TournamentPattern,
)

from assay.integrations.tinker import AssayPreferenceModel

PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]


class TextRenderer:
    """Reads a completion as a message that ended as it should."""

    def parse_response(self, tokens: str) -> Any:
        return {"role": "assistant", "content": tokens}, SimpleNamespace(is_stop_sequence=True)


async def main(completions: list[str]) -> None:
    builder = PairwisePreferenceGroupBuilder(
        convo_prefix=PROMPT,
        policy_renderer=TextRenderer(),
        tournament_pattern=TournamentPattern.ALL_PAIRS_BOTH_WAYS,
        preference_model=AssayPreferenceModel(),
        num_envs=len(completions),
        matchup_group_size=len(completions),
    )
    trajectories = [
        SimpleNamespace(transitions=[SimpleNamespace(ac=SimpleNamespace(tokens=text))])
        for text in completions
    ]

    async def ask() -> list[float]:
        return [reward for reward, _ in await builder.compute_group_rewards(trajectories, [])]

    await rounds(ask)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
