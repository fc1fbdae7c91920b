"""Which model's probe is meant, from the environment or flags."""

from __future__ import annotations

from pydantic import Field

from assay.models.resolve import DEFAULT_MODEL
from assay.registry.settings import StoreSettings


class ProbeSettings(StoreSettings):
    """What `assay probe` shares with the server and the trainer."""

    model: str = Field(default=DEFAULT_MODEL, description="Name, or a version of it.")
