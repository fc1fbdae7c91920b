"""Random numbers that are a function of their purpose alone, so that no state need be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(seed: int, purpose: str, number: int) -> int:
    """A seed for the n-th time that something is drawn for a purpose."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def generator(seed: int, purpose: str, number: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed_for(seed, purpose, number))


@contextmanager
def seeded(seed: int, purpose: str, number: int) -> Iterator[None]:
    """For libraries that draw from torch's own numbers, which are put back afterwards."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_for(seed, purpose, number))
        yield
