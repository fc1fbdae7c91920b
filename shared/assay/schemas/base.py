"""The two bases of all wire models: what comes in is strict, what goes out is plain."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

_MAX_FIELDS = 64


class Inbound(BaseModel):
    """A request body: unknown fields, NaN and infinities are refused.

    Its lists are read with `fail_fast`, and an object of very many fields is refused as a whole: an
    error of pydantic takes a kilobyte and 30 us, and a body may hold millions of faults.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MAX_FIELDS:
            raise ValueError(f"an object with {len(value)} fields: {_MAX_FIELDS} at most")
        return value


def example(**fields: Any) -> ConfigDict:
    """Model configuration that shows one example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Outbound(BaseModel):
    """A reply body: clients ignore fields that they do not know, so that servers may add some."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)
