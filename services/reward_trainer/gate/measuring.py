"""The scores of one version on the gate's texts; they do not change, so that they can be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.models.calibration import length_batches
from assay.models.scorer import Scorer
from reward_trainer.evaluate.statistics import Array
from reward_trainer.gate.data import GateData
from reward_trainer.gate.layout import Layout


@dataclass(frozen=True, eq=False)
class Measured:
    """What one version makes of the gate's texts.

    Attributes:
        model: `name@7`.
        layout: which texts.
        scores: raw, shape [texts, members]; they may be non-finite.
        calibrated: whether the version was centred on calibration pairs when it was saved, so that
            its offset says nothing.
    """

    model: str
    layout: Layout
    scores: Array
    calibrated: bool

    @property
    def finite(self) -> bool:
        """Whether every score is."""
        return bool(np.isfinite(self.scores).all())

    @property
    def mean(self) -> Array:
        """Mean over members, shape [texts]."""
        return np.asarray(self.scores.mean(axis=1))


def measure(model: Scorer, data: GateData, layout: Layout | None = None) -> Measured:
    """Score the gate's texts.

    Args:
        model: the version.
        data: where they come from.
        layout: of the same data, if it is at hand.

    Raises:
        InvalidInputError: a text does not fit the model.
    """
    layout = layout or Layout.of(data)
    texts = [model.encode(text.prompt, text.completion) for text in layout.texts]
    scores = np.empty((len(texts), model.card.assay.members))
    for batch in length_batches(texts):
        scores[batch] = model.score([texts[row] for row in batch])
    return Measured(model.card.id, layout, scores, model.card.assay.calibration is not None)
