"""The stored pairs of `ASSAY_PREFERENCES`: those to train on, and those to judge by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reward_trainer.fit.pairs import Pair, pairs_of, without_repeats
from reward_trainer.gate.data import cluster_of, held_out
from reward_trainer.gate.probe import Probe
from reward_trainer.online.batches import Preferences
from reward_trainer.online.publishing import Evidence
from reward_trainer.online.settings import TrainerSettings
from reward_trainer.preferences.reading import read_preferences
from reward_trainer.preferences.roots import groups_of


class Stored(NamedTuple):
    """Preference pairs and what is done with them.

    Attributes:
        preferences: to train on.
        evidence: to judge by.
        recipe: what an update depends on beside samples, for people.
        digest: of all of that; with another one a new lineage begins.
    """

    preferences: Preferences
    evidence: Evidence
    recipe: dict[str, Any]
    digest: str


def read_stored(settings: TrainerSettings, location: str, probe: Probe) -> Stored:
    """Read and divide preference pairs.

    Args:
        settings: the rule and its numbers.
        location: file, folder or hub id.
        probe: labelled recent samples; what shares a conversation with them is held out.

    Raises:
        DataError: nothing is there, a row is no pair, or none is left to train on.
    """
    table = read_preferences(location)
    name = Path(location).name.partition(".")[0]
    pairs = without_repeats(pairs_of(table, groups_of(table, "root"), name))
    train, held = held_out(pairs, probe.pairs())
    recipe = {
        **settings.rule_options.model_dump(mode="json"),
        "dropout": settings.dropout,
        "seed": settings.seed,
        "pairs_per_update": settings.pairs_per_update,
        "groups_per_update": settings.groups_per_update,
        "train_tokens": settings.train_tokens,
    }
    return Stored(
        Preferences(train, settings.seed),
        Evidence(held, probe.pairs, frozenset(cluster_of(pair) for pair in train)),
        recipe,
        _digest(recipe, train),
    )


def _digest(recipe: dict[str, Any], pairs: Sequence[Pair]) -> str:
    text = "\n".join([json.dumps(recipe, sort_keys=True), *(pair.key for pair in pairs)])
    return hashlib.sha256(text.encode()).hexdigest()
