"""The data set of a training: each item is one step, its texts in padded batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from assay.errors import AssayError, DataError
from assay.models.calibration import length_batches
from assay.models.inputs import InputEncoder
from assay.models.scorer import EncodedInput
from reward_trainer.fit.pairs import Pair
from reward_trainer.fit.sampling import Group, pack, pair_weights, prompt_groups, step_count

Collate = Callable[[Sequence[EncodedInput]], Mapping[str, Tensor]]
Step = dict[str, Any]


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs and the distinct inputs that they are made of.

    Attributes:
        pairs: what was encoded.
        texts: distinct inputs.
        sides: the two texts of each pair, chosen first.
    """

    pairs: Sequence[Pair]
    texts: list[EncodedInput]
    sides: list[tuple[int, int]]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(text) for text in self.texts]


def encode_pairs(pairs: Sequence[Pair], encoder: InputEncoder) -> EncodedPairs:
    """Tokenize pairs.

    Raises:
        DataError: the model cannot read a prompt or completion; the row is named.
    """
    index: dict[bytes, int] = {}
    texts: list[EncodedInput] = []
    sides = []
    for pair in pairs:
        try:
            both = [encoder.encode(pair.prompt, side) for side in (pair.chosen, pair.rejected)]
        except AssayError as error:
            raise DataError(f"{pair.name}: {error.detail}") from error
        for text in both:
            if index.setdefault(text.digest, len(texts)) == len(texts):
                texts.append(text)
        sides.append((index[both[0].digest], index[both[1].digest]))
    return EncodedPairs(pairs, texts, sides)


class StepDataset(Dataset[Step]):
    """The steps of one epoch; `set_epoch`, which the Trainer calls, makes those of another.

    Args:
        data: encoded pairs.
        weights: of each pair in the loss.
        groups: pairs that stay together.
        step_tokens: tokens of a step.
        seed: decides which groups share a step, and the order.
    """

    def __init__(
        self,
        data: EncodedPairs,
        weights: Sequence[float],
        groups: Sequence[Group],
        step_tokens: int,
        seed: int,
    ) -> None:
        self._data = data
        self._weights = weights
        self._groups = groups
        self._sizes = [self._tokens(group) for group in groups]
        self._count = step_count(groups, self._sizes, step_tokens)
        self._seed = seed
        self.set_epoch(0)

    def _tokens(self, group: Group) -> int:
        texts = {text for row in group for text in self._data.sides[row]}
        return sum(len(self._data.texts[text]) for text in texts)

    def set_epoch(self, epoch: int) -> None:
        """Pack the groups anew; the same seed and epoch give the same steps."""
        random = Random(f"{self._seed}:{epoch}")
        self._steps = pack(self._groups, self._sizes, self._count, random)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Step:
        rows = self._steps[index]
        sides = [self._data.sides[row] for row in rows]
        texts = list(dict.fromkeys(text for side in sides for text in side))
        position = {text: place for place, text in enumerate(texts)}
        pairs = [self._data.pairs[row] for row in rows]
        return {
            "texts": [self._data.texts[text] for text in texts],
            "rows": [pair.name for pair in pairs],
            "chosen": torch.tensor([position[chosen] for chosen, _ in sides]),
            "rejected": torch.tensor([position[rejected] for _, rejected in sides]),
            "weight": torch.tensor([self._weights[row] for row in rows]),
            "margin": torch.tensor([pair.margin or 0.0 for pair in pairs]),
            "smoothing": torch.tensor([pair.smoothing for pair in pairs]),
        }


def training_steps(
    data: EncodedPairs, passes: Mapping[str, int], balance: float, step_tokens: int, seed: int
) -> StepDataset:
    """The steps of a training: weighted pairs, a prompt's texts together."""
    weights = pair_weights(data.pairs, data.sides, balance)
    groups = prompt_groups(data.pairs, data.sides, data.lengths, step_tokens, passes)
    return StepDataset(data, weights, groups, step_tokens, seed)


class StepCollator:
    """Pads the texts of a step, in batches of like length, with the trunk output if it is cached.

    Args:
        collate: pads inputs, on any device.
        hidden: trunk output of a text, shape [tokens, width]; None = the trunk runs.
    """

    def __init__(
        self, collate: Collate, hidden: Callable[[EncodedInput], Tensor] | None = None
    ) -> None:
        self._collate = collate
        self._hidden = hidden

    def __call__(self, steps: Sequence[Step]) -> Step:
        (step,) = steps
        texts = step["texts"]
        batches = [self._batch(texts, places) for places in length_batches(texts)]
        return {**step, "texts": len(texts), "batches": batches}

    def _batch(self, texts: Sequence[EncodedInput], places: list[int]) -> dict[str, Any]:
        chosen = [texts[place] for place in places]
        batch = {"inputs": self._collate(chosen), "places": torch.tensor(places)}
        if self._hidden is not None:
            rows = [self._hidden(text) for text in chosen]
            batch["hidden"] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return batch
