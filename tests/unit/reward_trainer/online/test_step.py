"""Members that learn: which weights move, and by as much as autograd says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from assay.errors import DataError, InvalidInputError, ModelLoadError, ScoringError
from assay.models.loading import load
from assay.models.reward_model import RewardModel
from assay.models.scorer import EncodedInput
from assay.objectives import normalised_separation, separation
from assay.schemas.text import Completion, Message, Prompt
from reward_trainer.fit.pairs import Pair
from reward_trainer.online.batches import Preferences, group_batch, pair_batch
from reward_trainer.online.ensemble import LearningEnsemble
from reward_trainer.online.groups import Group
from reward_trainer.online.options import RuleName, RuleOptions
from reward_trainer.online.rules import update
from reward_trainer.online.step import Objectives, StepRecord, take_step

ToyModel = Callable[[str, str], Path]
PAIRS = [Pair("", i + 1, "", f"q{i}", f"abab{i}", f"yz{'yz' * i}") for i in range(6)]
GROUPS = [
    Group(
        prompt=f"p{i}",
        completions=tuple(f"{word} {i}" for word in ("one", "another", "three!")[: 2 + i % 2]),
        policy="ppo" if i < 3 else "sft",
        ids=(f"{i}-0",),
    )
    for i in range(5)
]


def learning(
    model: RewardModel, rule: RuleName = "literal", dropout: float = 0.0, **options: object
) -> LearningEnsemble:
    chosen = RuleOptions.model_validate({"rule": rule, "learning_rate": 1e-2, **options})
    return LearningEnsemble(model.members, chosen, dropout)


def step(ensemble: LearningEnsemble, model: RewardModel) -> StepRecord:
    batches = pair_batch(PAIRS, model.encode), group_batch(GROUPS, model.encode)
    return take_step(ensemble, *batches, GROUPS)


def table(ensemble: LearningEnsemble, model: RewardModel) -> Tensor:
    """Scores of the groups' completions, by the way in which they are served."""
    texts = [model.encode(g.prompt, c) for g in GROUPS for c in g.completions]
    return ensemble.members.score(texts)


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_training_scores_are_those_that_are_served(
    family: str, adapter: str, toy_model: ToyModel
) -> None:
    model = load(str(toy_model(family, adapter)))
    served = [table(learning(model, dropout=0.2), model)]
    ensemble = learning(model)
    rows = ensemble.prepare([model.encode(g.prompt, c) for g in GROUPS for c in g.completions])
    with torch.no_grad():
        trained = torch.stack([ensemble.scores(i, rows) for i in range(2)], dim=1)
    torch.testing.assert_close(trained, served[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_weights_above_the_trunk_move_and_others_stay_bit_for_bit(
    adapter: str, toy_model: ToyModel
) -> None:
    model = load(str(toy_model("bert", adapter)))
    ensemble = learning(model)
    everything = {
        f"{place}:{name}": (weight, weight.detach().clone())
        for place, module in enumerate(_modules(model))
        for name, weight in module.named_parameters()
    }
    trained = {id(p) for learner in ensemble.learners for p in learner.params}
    before = ensemble.weights()
    for _ in range(2):  # the first step moves one factor of fresh adapters only
        step(ensemble, model)
    for name, (weight, old) in everything.items():
        if id(weight) not in trained:
            assert torch.equal(weight, old), name
    biases = [head.bias for head in model.members.heads()]
    assert not trained & {id(bias) for bias in biases}
    for old_weights, new_weights in zip(before, ensemble.weights(), strict=True):
        moved = [name for name in old_weights if not old_weights[name].equal(new_weights[name])]
        assert len(moved) > len(old_weights) / 2
        assert not any("classifier" in name and "bias" in name for name in moved)
        if adapter == "lora":
            assert all("layer.0." not in name for name in old_weights)


def test_members_learn_apart(toy_model: ToyModel) -> None:
    """A member alone takes the same step as among others."""
    model = load(str(toy_model("bert", "lora")))
    ensemble = learning(model, dropout=0.0)
    step(ensemble, model)
    together = ensemble.weights()
    fresh = load(str(toy_model("bert", "lora")))
    alone = learning(fresh)
    alone.learners = alone.learners[1:]
    pairs, groups = pair_batch(PAIRS, fresh.encode), group_batch(GROUPS, fresh.encode)
    rows = alone.prepare(pairs.texts), alone.prepare(groups.texts)
    objectives = Objectives(alone, 1, pairs, rows[0], groups, rows[1])
    update(alone.learners[0], objectives.loss, objectives.separation)
    for name, weight in alone.weights()[1].items():
        assert torch.equal(weight, together[1][name])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_record_is_measured_on_the_weights_before(adapter: str, toy_model: ToyModel) -> None:
    model = load(str(toy_model("bert", adapter)))
    ensemble = learning(model, "vanilla", dropout=0.3)
    before = table(ensemble, model).double()
    ends = torch.tensor([len(group.completions) for group in GROUPS]).cumsum(0).tolist()
    parts = [
        before[end - len(group.completions) : end] for end, group in zip(ends, GROUPS, strict=True)
    ]
    record = step(ensemble, model)
    separated = torch.stack([normalised_separation(part.mT) for part in parts]).mean()
    gaps = [
        torch.stack([(part[i] - part[j]).abs().mean() for i in range(len(part)) for j in range(i)])
        for part in parts
    ]
    assert record.separation == pytest.approx(separated.item(), rel=1e-3)
    assert record.difference == pytest.approx(
        torch.stack([gap.mean() for gap in gaps]).mean().item(), rel=1e-3
    )
    assert set(record.drift) == {"ppo", "sft"}
    assert (record.drift["ppo"].groups, record.drift["sft"].groups) == (3, 2)
    assert record.separation_gradient == 0.0


def test_gradients_are_those_of_the_objectives_written_out(toy_model: ToyModel) -> None:
    """One SGD step of the joint rule against autograd through the served model's own pass."""
    model = load(str(toy_model("bert", "full")))
    ensemble = learning(
        model, "joint", optimizer="sgd", learning_rate=0.5, joint_weight=0.7, clip_norm=None
    )
    pooler = model.members.poolers[0]  # type: ignore[attr-defined]
    params = ensemble.learners[0].params

    def score(prompt: Prompt, completion: Completion) -> Tensor:
        found: Tensor = pooler.scores(pooler.collate([model.encode(prompt, completion)]))
        return found

    pooler.model.eval()
    losses = [softplus(score(p.prompt, p.rejected) - score(p.prompt, p.chosen)) for p in PAIRS]
    js = [separation(torch.cat([score(g.prompt, c) for c in g.completions])[None]) for g in GROUPS]
    total = torch.cat(losses).mean() - 0.7 * torch.cat(js).mean()
    found = torch.autograd.grad(total, params, allow_unused=True)
    expected = [
        p.detach() - 0.5 * g if g is not None else p.detach().clone()
        for p, g in zip(params, found, strict=True)
    ]
    step(ensemble, model)
    for param, value in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), value, rtol=1e-4, atol=1e-6)


def test_weights_of_another_model_are_refused(toy_model: ToyModel) -> None:
    model = load(str(toy_model("bert", "lora")))
    ensemble = learning(model)
    with pytest.raises(ModelLoadError, match="another model"):
        ensemble.load_weights([{}, {}])


def test_pairs_come_in_an_order_that_follows_from_the_seed_each_once_a_pass() -> None:
    one, other = Preferences(PAIRS, 3), Preferences(PAIRS, 3)
    seen = [pair for update in range(3) for pair in one.batch(update, 4)]
    assert sorted(pair.row for pair in seen[:6]) == [1, 2, 3, 4, 5, 6]
    assert sorted(pair.row for pair in seen[6:]) == [1, 2, 3, 4, 5, 6]
    assert [pair.row for pair in seen[:6]] != [pair.row for pair in seen[6:]]
    assert other.batch(2, 4) == seen[8:]
    assert [p.row for p in Preferences(PAIRS, 4).batch(0, 6)] != [p.row for p in seen[:6]]
    with pytest.raises(DataError, match="no preference pairs"):
        Preferences([], 0)


def test_a_pair_that_the_model_cannot_read_is_named(toy_model: ToyModel) -> None:
    model = load(str(toy_model("bert", "lora")))
    image = [Message(role="user", content=[{"type": "image"}])]
    bad = Pair("pairs", 7, "", image, "a", "b")
    with pytest.raises(DataError, match="pairs row 7"):
        pair_batch([bad], model.encode)


def _modules(model: RewardModel) -> list[torch.nn.Module]:
    members = model.members
    poolers = getattr(members, "poolers", None)
    return [members.model] if poolers is None else [p.model for p in poolers]  # type: ignore[attr-defined]


def test_of_a_batch_only_the_pair_that_cannot_be_read_is_named() -> None:
    pairs = [Pair("pairs", row, "", f"q{row}", "a", "b") for row in range(1, 17)]

    def encode(prompt: Prompt, completion: Completion) -> EncodedInput:
        if prompt == "q14":
            raise InvalidInputError("no tokens")
        return EncodedInput((1, 2))

    with pytest.raises(DataError, match="^pairs row 14: no tokens$"):
        pair_batch(pairs, encode)


@pytest.mark.parametrize("rule", ["vanilla", "joint"])
def test_a_score_that_is_infinite_is_no_step_even_where_j_is_finite(
    rule: RuleName, toy_model: ToyModel
) -> None:
    model = load(str(toy_model("bert", "lora")))
    ensemble = learning(model, rule)
    with torch.no_grad():
        ensemble.members.heads()[0].bias.fill_(torch.inf)
    with pytest.raises(ScoringError, match="score that is not finite"):
        step(ensemble, model)
