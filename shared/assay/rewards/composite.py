"""A score out of several parts: reward models and rules, each with a weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Part(NamedTuple):
    """One component's values.

    Attributes:
        name: its name in replies.
        weight: what its values are multiplied by, normalisation included.
        values: shape [texts, members] for the ensemble that tells how sure the score is, else
            [texts, 1]; NaN = no score.
    """

    name: str
    weight: float
    values: Values


class Blend(NamedTuple):
    """What the parts add up to.

    Attributes:
        scores: shape [texts, members]; 0 for a text without a score.
        components: weighted values by name, shape [texts], which sum to the mean of `scores` over
            members; 0 for a text without a score.
        absent: True where a part gave no score, so that there is no sum; shape [texts].
    """

    scores: Values
    components: dict[str, Values]
    absent: NDArray[np.bool_]


def blend(parts: Sequence[Part]) -> Blend:
    """The weighted sum, member by member: `s_im = sum_c w_c v_cim`.

    A part with one value a text adds the same to every member: it shifts the mean and leaves the
    spread over members as it is. A text that any part gives no score has none.

    Args:
        parts: at least one, with values for the same texts.
    """
    absent = np.any([np.isnan(part.values).any(axis=1) for part in parts], axis=0)
    weighted = {
        part.name: np.where(absent[:, None], 0.0, part.weight * part.values) for part in parts
    }
    members = max(part.values.shape[1] for part in parts)
    scores = np.zeros((len(absent), members))
    for values in weighted.values():
        scores += values
    return Blend(scores, {name: values.mean(axis=1) for name, values in weighted.items()}, absent)
