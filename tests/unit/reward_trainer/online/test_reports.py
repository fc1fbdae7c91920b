"""Files and metrics that stay small however long the trainer runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from assay.registry.promotions import Registry
from online_trainer import read_jsonl
from reward_trainer.online import reports as module
from reward_trainer.online.drift import Drift
from reward_trainer.online.groups import Joining
from reward_trainer.online.intake import Intake
from reward_trainer.online.metrics import TrainerMetrics
from reward_trainer.online.reports import Reports
from reward_trainer.online.state import State
from reward_trainer.online.step import StepRecord

STATE = State(
    model="toy",
    lineage="l",
    parent=1,
    serving=1,
    last_id="0-0",
    intake=Intake(joining=Joining(k_max=2, join_span=2)),
    recipe="r",
)


def record(policy: str) -> StepRecord:
    drift = Drift(groups=1, variance=1.0, disagreement=None, length_correlation=0.5)
    numbers = dict.fromkeys(StepRecord.model_fields, 1.0)
    return StepRecord.model_validate({**numbers, "drift": {policy: drift}})


def reports(folder: Path) -> Reports:
    registry = Registry(Redis(), "toy")  # of which updates make no use
    return Reports(folder, registry, TrainerMetrics(CollectorRegistry()))


def test_a_large_file_gives_way_and_the_one_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 2000)
    made = reports(tmp_path)
    for step in range(100):
        made.update(STATE.model_copy(update={"steps": step}), record("ppo"), 0.1)
    files = {path.name: read_jsonl(path) for path in tmp_path.iterdir()}
    assert sorted(files) == ["updates.1.jsonl", "updates.jsonl"]
    steps = [row["step"] for row in files["updates.1.jsonl"] + files["updates.jsonl"]]
    assert steps == list(range(steps[0], 100))
    assert all(path.stat().st_size < 2600 for path in tmp_path.iterdir())


def test_of_policies_the_last_ones_have_metrics(tmp_path: Path) -> None:
    made = reports(tmp_path)
    for number in range(150):
        made.update(STATE, record(f"policy {number}"), 0.1)
    shown = {
        sample.labels["policy"]
        for metric in made.metrics.registry.collect()
        for sample in metric.samples
        if metric.name == "reward_trainer_drift"
    }
    assert len(shown) < 100
    assert {"policy 149", "policy 100"} <= shown
