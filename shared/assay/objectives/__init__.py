"""Training objectives as pure functions on tensors: formula, shapes, source.

Tensors of a wrong shape or dtype are mistakes of the calling code, and raise ValueError; numbers
that a user chooses (an alpha, a cap, a temperature) raise InvalidInputError. Scores that are not
finite give losses that are not: the trainer, which knows the batch, stops there.

Contrastive rewards are in `assay.rewards.contrastive`: they need no gradient.
"""

from __future__ import annotations

from assay.objectives.contrastive_learning import (
    CONTRASTIVE,
    ContrastiveOptions,
    contrastive_term,
)
from assay.objectives.margins import adaptive_margin, batch_mean, batch_threshold
from assay.objectives.ranking import ranking_loss
from assay.objectives.running_scale import RunningScale
from assay.objectives.separation import normalised_separation, separation
from assay.objectives.simcse import simcse_loss
from assay.objectives.soft_labels import from_strength, smooth_all, smooth_negative
from assay.objectives.swav import random_prototypes, sinkhorn, swav_loss
from assay.objectives.views import difference_items, pair_items

__all__ = [
    "CONTRASTIVE",
    "ContrastiveOptions",
    "RunningScale",
    "adaptive_margin",
    "batch_mean",
    "batch_threshold",
    "contrastive_term",
    "difference_items",
    "from_strength",
    "normalised_separation",
    "pair_items",
    "random_prototypes",
    "ranking_loss",
    "separation",
    "simcse_loss",
    "sinkhorn",
    "smooth_all",
    "smooth_negative",
    "swav_loss",
]
