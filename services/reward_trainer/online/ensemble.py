"""A version of a reward model whose weights go on learning, member by member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.errors import ModelLoadError
from assay.models.calibration import length_batches
from assay.models.members import AdapterMembers, Members, WholeMembers
from assay.models.pooling import Pooler
from assay.models.scorer import EncodedInput
from assay.models.trunk import SharedTrunk, transformer_layers
from reward_trainer.fit.dropout import set_dropout
from reward_trainer.fit.ensemble import load_weights
from reward_trainer.online.rules import Learner, RuleOptions


@dataclass(frozen=True)
class Rows:
    """Texts of like length, padded, with what the frozen trunk made of them.

    Attributes:
        inputs: `input_ids` and so on, [rows, tokens].
        places: where each row belongs among the texts of its batch.
        hidden: trunk output, [rows, tokens, width]; None = every layer runs.
    """

    inputs: dict[str, Tensor]
    places: list[int]
    hidden: Tensor | None


class LearningEnsemble:
    """The members of a version with a learner each.

    The trained weights are those above the trunk: adapters and heads, or whole models. The bias of
    a head is not trained, since neither objective sees it.

    Args:
        members: as loaded; changed in place.
        options: the rule and its optimizers.
        dropout: rate in the trained layers while the ranking loss is taken.

    Raises:
        ModelLoadError: members of an unknown kind, or nothing to train.
    """

    def __init__(self, members: Members, options: RuleOptions, dropout: float) -> None:
        self.members = members
        self._options = options
        self._weights = [_own_weights(members, index) for index in range(members.count)]
        biases = {id(head.bias) for head in members.heads()}
        self._trained = [
            [weight for weight in own.values() if id(weight) not in biases] for own in self._weights
        ]
        if not all(self._trained):
            raise ModelLoadError("a member has no weights to train")
        for model in _models(members):
            model.requires_grad_(False)
        for pooler in _poolers(members):
            layers = [*transformer_layers(pooler.model)][_trunk_layers(members) :]
            set_dropout(pooler.model, layers, dropout)
        for weights in self._trained:
            for weight in weights:
                weight.requires_grad_(True)
        self.renew()

    @property
    def count(self) -> int:
        """Number of members."""
        return self.members.count

    def renew(self) -> None:
        """Optimizers without a past."""
        self.learners = [Learner(own, self._options) for own in self._trained]

    def weights(self) -> list[dict[str, Tensor]]:
        """A copy of what each member has for itself, on the CPU, by name."""
        return [
            {name: weight.detach().cpu().clone() for name, weight in own.items()}
            for own in self._weights
        ]

    def load_weights(self, weights: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over what `weights` gave.

        Raises:
            ModelLoadError: they are of another model.
        """
        if [set(own) for own in weights] != [set(own) for own in self._weights]:
            raise ModelLoadError("the weights of a checkpoint are those of another model")
        holders = _models(self.members)
        for index, own in enumerate(weights):
            load_weights(holders[index % len(holders)], own)

    def prepare(self, texts: Sequence[EncodedInput]) -> list[Rows]:
        """Pad texts in batches of like length and run the trunk over them, once for all members."""
        self.learn(False)
        return [self._rows(texts, places) for places in length_batches(texts)]

    def scores(self, index: int, batches: Sequence[Rows]) -> Tensor:
        """What member `index` gives each text of `prepare`, shape [texts], with its graph."""
        pooler = self._pooler(index)
        found = []
        for rows in batches:
            with self._replaying(rows):
                found.append(pooler.scores(rows.inputs))
        places = torch.tensor([place for rows in batches for place in rows.places])
        order = torch.empty_like(places)
        order[places] = torch.arange(len(places))
        return torch.cat(found)[order.to(found[0].device)]

    def learn(self, active: bool) -> None:
        """Switch dropout on or off."""
        for model in _models(self.members):
            model.train(active)

    def _rows(self, texts: Sequence[EncodedInput], places: list[int]) -> Rows:
        pooler, trunk = self._pooler(0), self._trunk
        inputs = pooler.collate([texts[place] for place in places])
        if trunk is None:
            return Rows(inputs, places, None)
        with torch.no_grad():
            pooler.scores(inputs)
        return Rows(inputs, places, trunk.take_hidden())

    def _replaying(self, rows: Rows) -> AbstractContextManager[None]:
        if self._trunk is None or rows.hidden is None:
            return nullcontext()
        return self._trunk.replay(rows.hidden)

    def _pooler(self, index: int) -> Pooler:
        if isinstance(self.members, AdapterMembers):
            self.members.activate(self.members.names[index])
            return self.members.pooler
        return _poolers(self.members)[index]

    @property
    def _trunk(self) -> SharedTrunk | None:
        return self.members.trunk if isinstance(self.members, AdapterMembers) else None


def _models(members: Members) -> list[nn.Module]:
    """The modules that hold the members: one for all, or one each."""
    if isinstance(members, AdapterMembers):
        return [members.model]
    return [pooler.model for pooler in _poolers(members)]


def _poolers(members: Members) -> list[Pooler]:
    if isinstance(members, AdapterMembers):
        return [members.pooler]
    if isinstance(members, WholeMembers):
        return members.poolers
    raise ModelLoadError(f"{type(members).__name__} cannot be trained")


def _trunk_layers(members: Members) -> int:
    trunk = members.trunk if isinstance(members, AdapterMembers) else None
    return 0 if trunk is None else trunk.layers


def _own_weights(members: Members, index: int) -> dict[str, nn.Parameter]:
    if not isinstance(members, AdapterMembers):
        return dict(_poolers(members)[index].model.named_parameters())
    mark = f".{members.names[index]}."
    return {name: weight for name, weight in members.model.named_parameters() if mark in name}
