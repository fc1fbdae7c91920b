"""Bad candidates with real models: each is rejected by the rule that is meant for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import datasets
import pytest
import torch
from torch import Tensor

from assay.models.members import AdapterMembers
from assay.models.reward_model import RewardModel
from reward_trainer.fit.ensemble_training import train_ensemble
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.recipe import load_recipe
from reward_trainer.gate.data import GateData
from reward_trainer.gate.evaluate import evaluate
from reward_trainer.gate.measuring import Measured, measure
from reward_trainer.gate.report import GateReport
from reward_trainer.preferences.formats import COLUMNS
from tiny_models import save_family

pytestmark = pytest.mark.integration

Text = tuple[str, str]
"""The letters that a pair is made of, the better one first."""
SETTLED: Text = ("a", "z")
RECENT: Text = ("c", "x")
HEADS = "modules_to_save"


@dataclass(frozen=True)
class Samples:
    prompt: str
    completions: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """Models over one tiny backbone, and the evidence by which they are judged."""

    folder: Path
    data: GateData
    parent: RewardModel
    measured: Measured

    def report(self, candidate: RewardModel | Measured) -> GateReport:
        return evaluate(candidate, self.measured, self.measured, self.data)


def text(letters: Text, share: float, length: int, random: Random) -> str:
    return "".join(random.choices(letters, [share, 1 - share], k=length))


def pairs(letters: Text, count: int, seed: int, *, longer: float = 0.5) -> list[Pair]:
    """Pairs in which the chosen text has more of the better letter, most of them.

    Args:
        letters: what they are made of.
        count: how many.
        seed: of the texts.
        longer: how often the chosen text is the longer one.
    """
    random, made = Random(seed), []
    for index in range(count):
        lengths = sorted(random.sample(range(6, 24), 2))
        if random.random() < longer:
            lengths.reverse()
        chosen, rejected = (
            text(letters, share, length, random)
            for share, length in zip((0.65, 0.35), lengths, strict=True)
        )
        if chosen != rejected:
            prompt = f"{letters[0]} {seed} {index}"
            made.append(Pair("", index + 1, "", prompt, chosen, rejected))
    return made


def trained(folder: Path, train: Sequence[Pair]) -> RewardModel:
    rows = [dict(zip(COLUMNS, (p.prompt, p.chosen, p.rejected), strict=True)) for p in train]
    changes = {
        "backbone": str(folder / "backbone"),
        "members": 2,
        "trunk_layers": 0,
        "learning_rate": 1e-2,
        "train_tokens": 64,
        "max_tokens": 64,
        "step_tokens": 600,
        "epochs": 2,
    }
    return train_ensemble(
        datasets.Dataset.from_list(rows),
        load_recipe("bt", changes),
        workdir=folder / "work",
        device="cpu",
        progress=False,
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gate")
    save_family("bert", folder / "backbone")
    random = Random(5)
    groups = [
        Samples(f"sample {i}", tuple(text(RECENT, s, 12, random) for s in (0.2, 0.4, 0.6, 0.8)))
        for i in range(20)
    ]
    data = GateData(pairs(SETTLED, 400, 1), groups, pairs(RECENT, 60, 2))
    parent = trained(folder, [*pairs(SETTLED, 300, 3), *pairs(RECENT, 300, 4)])
    return Judge(folder, data, parent, measure(parent, data))


@contextmanager
def changeable(model: RewardModel, kind: str) -> Iterator[list[Tensor]]:
    """Weights of a kind, which may be changed and are put back."""
    assert isinstance(model.members, AdapterMembers)
    named = model.members.model.named_parameters()
    weights = [w.data for name, w in named if kind in name and not name.endswith("bias")]
    before = [weight.clone() for weight in weights]
    try:
        yield weights
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)


def recalibrated(version: Measured, like: Measured) -> Measured:
    """Scores with the mean and std of another version's: what is left is their order."""
    mean, std = version.scores.mean(axis=0), version.scores.std(axis=0)
    standard = (version.scores - mean) / std
    scores = standard * like.scores.std(axis=0) + like.scores.mean(axis=0)
    return replace(version, scores=scores)


def rejected_by(report: GateReport) -> set[str]:
    return {reason.partition(":")[0] for reason in report.reasons}


def test_the_parent_passes(judge: Judge) -> None:
    report = judge.report(judge.parent)

    assert report.passed
    assert report.shift == "verified"
    accuracy = next(rule.detail for rule in report.rules if rule.name == "accuracy_parent")
    assert float(accuracy.split()[1].strip(",")) > 0.75


def test_a_random_head_is_rejected_for_its_accuracy(judge: Judge) -> None:
    with changeable(judge.parent, HEADS) as weights:
        for seed, weight in enumerate(weights):
            make = torch.Generator().manual_seed(seed)
            weight.copy_(torch.randn(weight.shape, generator=make) * weight.std())
        report = judge.report(judge.parent)

    assert {"accuracy_parent", "accuracy_anchor"} <= rejected_by(report)


def test_an_inflated_scale_is_rejected_for_its_scale(judge: Judge) -> None:
    with changeable(judge.parent, HEADS) as weights:
        for weight in weights:
            weight.mul_(2.0)
        report = judge.report(judge.parent)

    assert "score_std" in rejected_by(report)
    assert not {"accuracy_parent", "length_correlation"} & rejected_by(report)


def test_one_that_prefers_length_is_rejected_for_it(judge: Judge) -> None:
    train = [*pairs(SETTLED, 300, 3, longer=0.9), *pairs(RECENT, 300, 4, longer=0.9)]

    report = judge.report(trained(judge.folder, train))

    assert "length_correlation" in rejected_by(report)


def test_twenty_candidates_each_slightly_worse_are_stopped_by_the_anchor(judge: Judge) -> None:
    """Each goes a step further in one wrong direction, and is judged beside the one before."""
    parent, steps, report = judge.measured, 0, judge.report(judge.measured)
    make = torch.Generator().manual_seed(3)
    with changeable(judge.parent, "lora_") as weights:
        wrong = [torch.randn(w.shape, generator=make) * w.std() for w in weights]
        while report.passed and steps < 20:
            for weight, direction in zip(weights, wrong, strict=True):
                weight.add_(direction, alpha=0.1)
            candidate = recalibrated(measure(judge.parent, judge.data), judge.measured)
            report = evaluate(candidate, parent, judge.measured, judge.data)
            parent, steps = candidate, steps + 1

    assert 2 < steps < 20
    assert "accuracy_anchor" in rejected_by(report)
    assert "accuracy_parent" not in rejected_by(report)


def test_one_that_is_inverted_on_recent_samples_is_rejected_by_the_probe(judge: Judge) -> None:
    inverted = [pair.swapped() for pair in pairs(RECENT, 300, 4)]

    report = judge.report(trained(judge.folder, [*pairs(SETTLED, 300, 3), *inverted]))

    assert {"probe_parent", "probe_anchor"} <= rejected_by(report)
    assert not {"accuracy_parent", "accuracy_anchor"} & rejected_by(report)
