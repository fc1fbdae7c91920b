"""How well a trained model ranks pairs that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.progress import Progress

from assay.models.calibration import PairInputs, length_batches
from assay.models.inputs import InputEncoder
from assay.models.members import Members
from reward_trainer.evaluate.accuracy import Accuracy, accuracy_by_subset
from reward_trainer.evaluate.statistics import Array
from reward_trainer.fit.pairs import Pair


def input_pairs(encoder: InputEncoder, pairs: Sequence[Pair]) -> list[PairInputs]:
    """The tokens of both sides of each pair."""
    return [
        (encoder.encode(pair.prompt, pair.chosen), encoder.encode(pair.prompt, pair.rejected))
        for pair in pairs
    ]


def measure(
    part: str, members: Members, encoder: InputEncoder, pairs: Sequence[Pair], progress: Progress
) -> list[Accuracy]:
    """Accuracy by source, of the mean over members, with what the length alone would do."""
    return accuracy_by_subset(
        [pair.source for pair in pairs],
        [pair.root for pair in pairs],
        np.array([pair.extra_length for pair in pairs], dtype=float),
        differences(part, members, encoder, pairs, progress).mean(axis=1),
    )


def differences(
    part: str, members: Members, encoder: InputEncoder, pairs: Sequence[Pair], progress: Progress
) -> Array:
    """score(chosen) - score(rejected) by each member, shape [pairs, members]."""
    inputs = input_pairs(encoder, pairs)
    texts = list({side.digest: side for pair in inputs for side in pair}.values())
    scores: dict[bytes, Array] = {}
    task = progress.add_task(f"score {part}", total=len(texts))
    for rows in length_batches(texts):
        batch = [texts[row] for row in rows]
        values = members.score(batch).double().numpy()
        scores |= zip((text.digest for text in batch), values, strict=True)
        progress.advance(task, len(rows))
    return np.array(
        [scores[chosen.digest] - scores[rejected.digest] for chosen, rejected in inputs]
    )
