"""What an update learns from: a batch of stored pairs and a batch of groups, as model inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from assay.errors import AssayError, DataError
from assay.models.scorer import EncodedInput
from reward_trainer.fit.pairs import Pair
from reward_trainer.online.filters import Encode
from reward_trainer.online.groups import Group


class Batch(NamedTuple):
    """Items over distinct texts.

    Attributes:
        texts: each once.
        items: positions of each item's texts: chosen and rejected, or a group's completions.
    """

    texts: list[EncodedInput]
    items: list[list[int]]


def pair_batch(pairs: Sequence[Pair], encode: Encode) -> Batch:
    """Encode pairs, chosen first.

    Raises:
        DataError: the model cannot read one; its row is named.
    """
    return _batch(_encoded(pair, encode) for pair in pairs)


def group_batch(groups: Sequence[Group], encode: Encode) -> Batch:
    """Encode groups, all of which were encoded before without an error."""
    return _batch([encode(g.prompt, completion) for completion in g.completions] for g in groups)


class Preferences:
    """Stored pairs in an endless order that follows from the seed.

    Args:
        pairs: those to train on.
        seed: decides the order of each pass over them.

    Raises:
        DataError: there are none.
    """

    def __init__(self, pairs: Sequence[Pair], seed: int) -> None:
        if not pairs:
            raise DataError("no preference pairs are left to train on: all of them are held out")
        self._pairs = pairs
        self._seed = seed

    def batch(self, update: int, size: int) -> list[Pair]:
        """The pairs of an update, counted from 0."""
        return [self._at(position) for position in range(update * size, (update + 1) * size)]

    def _at(self, position: int) -> Pair:
        epoch, place = divmod(position, len(self._pairs))
        return self._pairs[self._order(epoch)[place]]

    def _order(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._shuffled = list(range(len(self._pairs)))
            Random(f"{self._seed}:{epoch}").shuffle(self._shuffled)
        return self._shuffled


def _encoded(pair: Pair, encode: Encode) -> list[EncodedInput]:
    try:
        return [encode(pair.prompt, side) for side in (pair.chosen, pair.rejected)]
    except AssayError as error:
        raise DataError(f"{pair.name}: {error.detail}") from error


def _batch(encoded: Iterable[Sequence[EncodedInput]]) -> Batch:
    index: dict[bytes, int] = {}
    texts: list[EncodedInput] = []
    items = []
    for inputs in encoded:
        for text in inputs:
            if index.setdefault(text.digest, len(texts)) == len(texts):
                texts.append(text)
        items.append([index[text.digest] for text in inputs])
    return Batch(texts, items)
