"""Where the store is: what everyone who opens it has among their settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from assay.registry.store import Store


class StoreSettings(BaseSettings):
    """`ASSAY_HOME` and `ASSAY_STORE`, from the environment, `.env` or flags of the same name."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_",
        env_nested_delimiter="__",
        env_file=".env",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    home: Path = Field(default=Path("~/.assay"), description="Folder for state.")
    store: str | None = Field(
        default=None,
        description="Saved versions: a folder or s3://bucket/prefix; None = `store` in the home "
        "folder.",
    )

    @field_validator("home", mode="after")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @property
    def store_url(self) -> str:
        """The store: a folder, `file://...` or `s3://bucket/prefix`."""
        return str(self.home / "store") if self.store is None else self.store

    def open_store(self) -> Store:
        """The store itself.

        Raises:
            StartupError: `store` is none.
        """
        from assay.registry.store import Store

        return Store(self.store_url, self.home / "cache")
