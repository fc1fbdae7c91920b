"""Where the probe is, from the environment or flags."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from assay.models.resolve import DEFAULT_MODEL


class ProbeSettings(BaseSettings):
    """What `assay probe` shares with the server and the trainer."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    model: str = Field(default=DEFAULT_MODEL, description="Name, or a version of it.")
    home: Path = Field(default=Path("~/.assay"), description="Folder for state.")
    store: str | None = Field(
        default=None, description="Folder or URL of versions; None = `store` in the home folder."
    )

    @property
    def store_url(self) -> str:
        """The store as a folder or URL."""
        if self.store is not None and "://" in self.store:
            return self.store
        folder = self.home / "store" if self.store is None else Path(self.store)
        return str(folder.expanduser().absolute())
