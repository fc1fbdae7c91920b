"""The two bases of all wire models: what comes in is strict, what goes out is plain."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Inbound(BaseModel):
    """A request body: unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


def example(**fields: Any) -> ConfigDict:
    """Model configuration that shows one example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Outbound(BaseModel):
    """A reply body: clients ignore fields that they do not know, so that servers may add some."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)
