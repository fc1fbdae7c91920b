"""A version from the weights to the store: what the gate makes of it, without a Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from online_trainer import NAME, make_home, read_jsonl, trainer_settings
from reward_trainer.gate.probe import Probe
from reward_trainer.gate.report import GateReport
from reward_trainer.online.crash import Crash
from reward_trainer.online.groups import Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.learning import Learning
from reward_trainer.online.preferences import read_stored
from reward_trainer.online.publishing import Publisher
from reward_trainer.online.state import State
from reward_trainer.online.step import StepRecord
from reward_trainer.online.versions import Versions
from reward_trainer.preferences.reading import read_preferences

RECORD = StepRecord(
    loss=0.5,
    separation=0.1,
    difference=1.0,
    spread=1.0,
    loss_gradient=1.0,
    separation_gradient=0.0,
    drift={},
)


class Scene(NamedTuple):
    home: Path
    store: Store
    learning: Learning
    publisher: Publisher

    def judged(self) -> GateReport:
        made = self.publisher.make(self.learning, 1)
        self.publisher.publish(made)
        assert made.version == 2
        return made.report


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    home = make_home(tmp_path / "home")
    settings = trainer_settings(home, "redis://x")
    store = Store(settings.store_url)
    versions = Versions(NAME, store, "cpu")
    stored = read_stored(settings, str(home / "pairs.jsonl"), Probe(store, NAME))
    state = State(
        model=NAME,
        lineage="l",
        updates=3,
        parent=1,
        serving=1,
        last_id="9-0",
        intake=Intake(joining=Joining(k_max=4, join_span=6)),
        history=[RECORD],
        recipe=stored.digest,
    )
    learning = Learning(settings, versions, stored.preferences, state)
    folder = tmp_path / "draft"
    publisher = Publisher(versions, stored.evidence, stored.recipe, folder, Crash(None))
    return Scene(home, store, learning, publisher)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_give_no_numbers_are_a_rejected_version(value: float, scene: Scene) -> None:
    with torch.no_grad():
        scene.learning.ensemble.members.heads()[1].weight.fill_(value)
    report = scene.judged()
    assert [reason.partition(":")[0] for reason in report.reasons] == ["finite"]
    manifest = scene.store.manifest(ModelRef(NAME, 2))
    assert (manifest.status, manifest.calibration) == ("rejected", None)


def test_a_probe_that_names_what_is_trained_on_is_judged_without_that(scene: Scene) -> None:
    held = {pair.prompt for pair in scene.publisher._evidence.held}
    rows = read_jsonl(scene.home / "pairs.jsonl")
    trained = [row for row in rows if row["prompt"] not in held][:2]
    fresh = {"prompt": "a new question", "chosen": "abab", "rejected": "yzyz"}
    path = scene.home / "probe.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*trained, fresh]))
    Probe(scene.store, NAME).add(read_preferences(str(path)))
    rule = next(rule for rule in scene.judged().rules if rule.name == "probe_parent")
    assert "on 1 labelled recent samples" in rule.detail
    assert "2 are left out, as their conversations are trained on" in rule.detail
