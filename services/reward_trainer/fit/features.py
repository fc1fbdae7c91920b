"""The texts of a run as the trained layers see them: token ids, and what the trunk makes of them.

No member changes the trunk, so each distinct text passes through it once for all epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor

from assay.models.calibration import length_batches
from assay.models.inputs import InputEncoder
from assay.models.members import AdapterMembers
from assay.models.scorer import EncodedInput
from assay.models.trunk import SharedTrunk

Text = tuple[str, str]


@dataclass(frozen=True)
class Features:
    """One distinct text: its tokens, and its trunk output of shape [tokens, width] in fp16."""

    encoded: EncodedInput
    hidden: Tensor


def trunk_features(
    texts: Iterable[Text], encoder: InputEncoder, members: AdapterMembers, progress: Progress
) -> dict[Text, Features]:
    """Run the trunk over every distinct (prompt, completion)."""
    trunk = _trunk(members)
    distinct = list(dict.fromkeys(texts))
    encoded = [encoder.encode(*text) for text in distinct]
    features: dict[Text, Features] = {}
    task = progress.add_task("trunk", total=len(distinct))
    for rows in length_batches(encoded):
        inputs = members.pooler.collate([encoded[row] for row in rows])
        hidden = trunk.run(members.pooler.model, **inputs)
        for row, output in zip(rows, hidden, strict=True):
            kept = output[: len(encoded[row])].half().clone()
            features[distinct[row]] = Features(encoded[row], kept)
        progress.advance(task, len(rows))
    return features


def score(batch: Sequence[Features], members: AdapterMembers) -> Tensor:
    """Scores of the active member from the trunk output on, shape [batch], with gradients."""
    inputs = members.pooler.collate([row.encoded for row in batch])
    hidden = torch.nn.utils.rnn.pad_sequence([row.hidden for row in batch], batch_first=True)
    with _trunk(members).replay(hidden.float()):
        return members.pooler.scores(inputs)


def _trunk(members: AdapterMembers) -> SharedTrunk:
    if members.trunk is None:
        raise ValueError("these members share no lower layers")
    return members.trunk
