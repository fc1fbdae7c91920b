"""One candidate against its parent and the anchor."""

from __future__ import annotations

from assay.models.scorer import Scorer
from reward_trainer.gate.data import GateData
from reward_trainer.gate.measuring import Measured, measure
from reward_trainer.gate.report import GateReport


def evaluate(
    candidate: Scorer | Measured,
    parent: Scorer | Measured,
    anchor: Scorer | Measured,
    data: GateData,
) -> GateReport:
    """Score all versions on the gate's data and judge the candidate by every rule.

    Args:
        candidate: the version that asks to be promoted, calibrated as it would be served.
        parent: the version that it was trained from.
        anchor: the last version that a person promoted.
        data: what they are scored on; versions that were measured before must have been so on it.

    Raises:
        InvalidInputError: a text does not fit a model, or a measurement is of other data.
        ScoringError: the parent or the anchor gives a score that is not finite.
    """
    raise NotImplementedError
