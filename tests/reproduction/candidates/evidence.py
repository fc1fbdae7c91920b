"""What the gate judges `assay-minilm` and its bad children by: texts that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from reproduction.metarm.data import ARGUMENTS, CHECKPOINTS, Group, read_data
from reward_trainer.fit.pairs import Pair, read_sources
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.fit.splits import split_by_root
from reward_trainer.gate.data import GateData

RECENT = "hh_harmless_base_test"
_GROUPS, _PROBE = 10, 120


@dataclass(frozen=True)
class Evidence:
    """Parts of the embedded model's own split.

    Attributes:
        data: arguments on its dev and test topics; samples after RLHF; dialogues as a probe.
        arguments: pairs of its training topics.
        recent: dialogues that are not in the probe.
    """

    data: GateData
    arguments: list[Pair]
    recent: list[Pair]


def read_evidence(folder: Path) -> Evidence:
    """Read the files.

    Raises:
        DataError: one is missing, or has other columns.
    """
    recipe = load_recipe("default")
    split = split_by_root(read_sources(folder, recipe), recipe)
    recent = [pair for pair in split.test if pair.source == RECENT]
    Random(0).shuffle(recent)
    samples = read_data(folder).samples[CHECKPOINTS[-1]]
    groups = [Group(prompt, prompt, samples[prompt]) for prompt in sorted(samples)[:_GROUPS]]
    return Evidence(
        GateData(
            held=[
                replace(pair, root="")  # a prompt a cluster: there are five topics
                for pair in (*split.dev, *split.test)
                if pair.source == ARGUMENTS
            ],
            groups=groups,
            probe=recent[:_PROBE],
        ),
        arguments=[pair for pair in split.train if pair.source == ARGUMENTS],
        recent=[pair for pair in split.train if pair.source == RECENT],
    )
