"""Fencing: of several writers that each take the other for dead, only the newest may write."""

from __future__ import annotations

from typing import NamedTuple

from assay.errors import ConflictError


class Fence(NamedTuple):
    """What a write carries, so that Redis can tell whether its writer has been replaced.

    Attributes:
        key: where Redis keeps the largest token that was given.
        token: the writer's own.
    """

    key: str
    token: int


class FencedError(ConflictError):
    """Another trainer has taken over: what this one does must not count."""


def fenced() -> FencedError:
    """The error of a trainer that has been replaced."""
    return FencedError(
        "another trainer has taken the lease: this one was silent for too long, and ends without "
        "writing anything more"
    )
