"""The store in a folder of this machine, or one that is mounted on several."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from assay.errors import ArtifactError, DependencyError
from assay.files import sync
from assay.models.manifest import file_sha256
from assay.registry.place import Place

_RETRY_AFTER_S = 30.0  # somebody has to mend the disk or the permissions
_LOCK = ".lock"
_DRAFT_S = 86_400.0  # no copy takes longer


class Folder(Place):
    """Writers take turns by a lock file beside the file that they change; readers need none."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns OSError into DependencyError."""
        try:
            yield
        except OSError as error:
            where = error.filename or self._root
            raise DependencyError(
                f"the store {self._root} cannot be used: {error.strerror or error}: {where}",
                retry_after_s=_RETRY_AFTER_S,
            ) from error

    def children(self, path: str) -> set[str]:
        """Names of the files and folders in a folder; none if it does not exist."""
        folder = self._root / path
        return {each.name for each in folder.iterdir()} if folder.is_dir() else set()

    def holding(self, path: str, file: str) -> set[str]:
        """Names of the folders in `path` that hold `file`."""
        names = self.children(path)
        return {name for name in names if (self._root / path / name / file).is_file()}

    def read(self, path: str) -> bytes | None:
        """A file's contents; None = there is none."""
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one, in one step; whether it was written."""
        with self._locked(path) as file:
            if file.exists():
                return False
            _write(file, data)
            return True

    def change(self, path: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Read and write a file in one step; `change` gives None to leave it as it is."""
        with self._locked(path) as file:
            data = change(self.read(path))
            if data is not None:
                _write(file, data)

    def put(self, source: Path, path: str, digests: Mapping[str, str], last: str) -> bool:
        """Copy a folder here under a temporary name, and rename it."""
        target = self._root / path
        draft = _hidden(target)
        try:
            for file in (*digests, last):
                _copy(source / file, draft / file)
            for file, digest in digests.items():
                if file_sha256(draft / file) != digest:
                    raise ArtifactError(f"{file} was not written to {self._root} as it was read")
            for folder in (draft, *(each for each in draft.rglob("*") if each.is_dir())):
                sync(folder)
            with self._locked(path):
                if (target / last).exists():
                    return False
                shutil.rmtree(target, ignore_errors=True)  # the rest of one that was deleted
                draft.rename(target)
                sync(target.parent)
            return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def local(self, path: str, last: str, *, again: bool) -> Path | None:
        """The folder itself."""
        folder = self._root / path
        return folder if (folder / last).is_file() else None

    def remove(self, path: str, first: str) -> None:
        """Delete a folder, out of sight first."""
        folder = self._root / path
        hidden = _hidden(folder)
        with contextlib.suppress(FileNotFoundError):  # another collector was faster
            folder.rename(hidden)
            shutil.rmtree(hidden)

    def sweep(self, path: str) -> None:
        """Delete what writers that were killed more than a day ago have left in a folder."""
        sweep_drafts(self._root / path)

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[Path]:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with (file.parent / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield file


def sweep_drafts(folder: Path) -> None:
    """Delete drafts that nobody has touched for a day."""
    before_s = time.time() - _DRAFT_S
    for draft in folder.glob(".*.tmp"):
        if draft.stat().st_mtime < before_s:
            shutil.rmtree(draft, ignore_errors=True)
            draft.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    sync(target)


def _write(file: Path, data: bytes) -> None:
    draft = _hidden(file)
    try:
        draft.write_bytes(data)
        sync(draft)
        draft.replace(file)
        sync(file.parent)
    finally:
        draft.unlink(missing_ok=True)
