"""Clients of the REST API: `Client` for threads and scripts, `AsyncClient` for asyncio."""

from __future__ import annotations

from assay.client.aio import AsyncClient
from assay.client.sync import Client

__all__ = ["AsyncClient", "Client"]
