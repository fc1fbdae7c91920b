"""The store: every version of every model, in a folder or a bucket; the truth about all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assay.models.manifest import Manifest
from assay.registry.aliases import Aliases
from assay.schemas.refs import ModelRef


class Store:
    """Versions `NAME/N/`, aliases `NAME/aliases.json`, reserved numbers `NAME/reserved/N`.

    The versions that the package carries count as the store's own, but are never written.

    Args:
        url_or_path: a folder, `file://...` or `s3://bucket/prefix`.
        cache: folder for what is fetched from a bucket; None = `~/.assay/cache`.
    """

    def __init__(self, url_or_path: str, cache: Path | None = None) -> None:
        raise NotImplementedError

    def names(self) -> list[str]:
        """Models with a version, sorted."""
        raise NotImplementedError

    def versions(self, name: str) -> list[int]:
        """Versions with a manifest, oldest first."""
        raise NotImplementedError

    def newest(self, name: str) -> int | None:
        """The newest version that is released, neither candidate nor rejected."""
        raise NotImplementedError

    def manifest(self, ref: ModelRef) -> Manifest:
        """A version's manifest.

        Raises:
            ModelNotFoundError: there is no such version.
        """
        raise NotImplementedError

    def reserve(self, name: str, identity: str) -> int:
        """A number for a version that is to come; the same identity gets the same one again.

        Numbers are never given twice, be it after a crash or after `collect`.
        """
        raise NotImplementedError

    def publish(self, folder: Path, ref: ModelRef) -> Manifest:
        """Copy a saved version into the store, all or nothing; the same again changes nothing.

        Returns:
            The manifest in the store: that of the first time.

        Raises:
            ConflictError: the number holds another version.
            ArtifactError: the folder is damaged, or no version of that name and number.
        """
        raise NotImplementedError

    def fetch(self, ref: ModelRef) -> Path:
        """A local folder with a version whose digests are right.

        Raises:
            ModelNotFoundError: there is no such version.
            ArtifactError: it is damaged in the store.
        """
        raise NotImplementedError

    def aliases(self, name: str) -> Aliases:
        """The aliases; all None at epoch 0 where none were written."""
        raise NotImplementedError

    def write_aliases(self, name: str, aliases: Aliases) -> bool:
        """Write the aliases unless the store is ahead (`Aliases.may_replace`).

        Returns:
            Whether the store holds them now.
        """
        raise NotImplementedError

    def update_aliases(self, name: str, change: Callable[[Aliases], Aliases]) -> Aliases:
        """Read, change and write in one step; returns what the store holds now."""
        raise NotImplementedError

    def collect(self, name: str, keep: int, leased: set[int]) -> list[int]:
        """Delete old versions; their numbers stay taken.

        Kept are the newest `keep`, those under an alias and their parents, and those leased.

        Returns:
            What was deleted.
        """
        raise NotImplementedError
