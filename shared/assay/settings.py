"""Settings of those who call a reward server."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Where the server is, from `ASSAY_URL` and `ASSAY_KEY`; explicit arguments win."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    url: str = Field(default="http://127.0.0.1:8000", description="Base URL of the server.")
    key: SecretStr | None = Field(default=None, description="Key to send; None = none.")
