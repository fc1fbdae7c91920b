"""What the store needs of the place where it lies: a folder or a bucket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path


class Place(ABC):
    """Small files that change atomically, and folders that are written once; paths use `/`."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def errors(self) -> AbstractContextManager[None]:
        """Turns what the place's own library raises into DependencyError."""

    @abstractmethod
    def children(self, path: str) -> set[str]:
        """Names of the files and folders in a folder; none if it does not exist."""

    @abstractmethod
    def holding(self, path: str, file: str) -> set[str]:
        """Names of the folders in `path` that hold `file`."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """A file's contents; None = there is none."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one, in one step; whether it was written."""

    @abstractmethod
    def change(self, path: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Read and write a file in one step; `change` gives None to leave it as it is.

        It may be called again if somebody else was faster.
        """

    @abstractmethod
    def put(self, source: Path, path: str, digests: Mapping[str, str], last: str) -> bool:
        """Copy a folder here, all or nothing, `last` being the file that makes it count.

        Args:
            source: the folder.
            path: where it goes.
            digests: its files and their SHA-256, compared with what was written.
            last: one more file of it.

        Returns:
            False = there is one already, which is left as it is.

        Raises:
            ArtifactError: what was written is not what was read.
        """

    @abstractmethod
    def local(self, path: str, last: str, *, again: bool) -> Path | None:
        """A folder as one of this machine; None = there is none with the file `last`.

        Args:
            path: the folder.
            last: the file that makes it count.
            again: do not trust an earlier copy.
        """

    @abstractmethod
    def remove(self, path: str, first: str) -> None:
        """Delete a folder; without the file `first` it does not count any more."""

    @abstractmethod
    def sweep(self, path: str) -> None:
        """Delete what is of no use in a folder: remains of writers killed more than a day ago."""
