"""From an answer to the numbers of a reply: raw or squashed, as JSON numbers or as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from assay.errors import FieldError, InvalidInputError
from assay.rewards.strength import sigmoid

if TYPE_CHECKING:
    from reward_server.compat.core import Answer, Input

LABEL = "LABEL_0"  # what transformers calls the only label of a model

Dtype = Literal["float32", "float16"]
Endianness = Literal["native", "big", "little"]


def rewards(answer: Answer, inputs: Sequence[Input], *, activated: bool = False) -> list[float]:
    """One number for each input.

    Args:
        activated: True = through a sigmoid, which is what these systems apply to one label.

    Raises:
        InvalidInputError: an input without a score. These replies have no place for "no score",
            and trying again would not help, so that the client is told at once.
    """
    values = [output.reward for output in answer.outputs]
    absent = [i for i, value in enumerate(values) if value is None]
    if absent:
        paths = [inputs[i].path for i in absent]
        raise InvalidInputError(
            f"{paths[0]}: no rule or model gave a score for it",
            fields=tuple(FieldError(path, "no score") for path in paths[:20]),
        )
    numbers = np.array(values, dtype=np.float64)
    chosen: list[float] = (sigmoid(numbers) if activated else numbers).tolist()
    return chosen


def packed(value: float, dtype: Dtype = "float32", endianness: Endianness = "little") -> bytes:
    """A score as the bytes of one number.

    Raises:
        InvalidInputError: the number is out of the type's range.
    """
    with np.errstate(over="ignore"):
        number = np.array([value]).astype(np.dtype(dtype).newbyteorder(endianness))
    if not np.isfinite(number).all():
        raise InvalidInputError(f"embed_dtype: the score is out of the range of {dtype}")
    return number.tobytes()
