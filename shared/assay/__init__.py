"""Assay: a reward-serving platform for RLHF.

`from assay import Client, AsyncClient` is all that a trainer needs. Importing this package costs
neither torch nor ray, redis or fastapi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]

if TYPE_CHECKING:
    from assay.client import AsyncClient, Client


def __getattr__(name: str) -> object:
    """Import the clients on first use, so that `assay --help` does not pay for httpx."""
    if name in ("AsyncClient", "Client"):
        from assay import client

        return getattr(client, name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")
