"""What every objective asks of its arguments, so that nothing is broadcast by accident."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from assay.errors import InvalidInputError


def check_pairs(chosen: Tensor, rejected: Tensor) -> None:
    """Raise ValueError unless both are floating point and of one shape [B]."""
    if chosen.ndim != 1 or chosen.shape != rejected.shape:
        raise ValueError(
            "scores of one shape [B] are needed, "
            f"not {list(chosen.shape)} and {list(rejected.shape)}"
        )
    check_floating("scores", chosen, rejected)


def check_per_pair(name: str, values: Tensor, pairs: int) -> None:
    """Raise ValueError unless there is one value a pair, shape [B], held constant."""
    if values.shape != (pairs,):
        raise ValueError(f"{name} of shape [{pairs}] is needed, not {list(values.shape)}")
    if values.requires_grad:
        raise ValueError(f"{name} must be detached: it is a constant of the step")


def check_floating(name: str, *tensors: Tensor) -> None:
    """Raise ValueError unless all tensors are floating point."""
    if not all(tensor.is_floating_point() for tensor in tensors):
        found = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise ValueError(f"{name} must be floating point, not {found}")


def check_positive(name: str, value: float) -> None:
    """Raise InvalidInputError unless the value is above 0 and finite."""
    if not 0 < value < math.inf:
        raise InvalidInputError(f"{name} must be above 0 and finite, not {value}")


def full_precision(tensor: Tensor) -> Tensor:
    """In float32, or in float64 if it comes so."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
