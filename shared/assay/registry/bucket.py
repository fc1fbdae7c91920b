"""The store in an S3 bucket, by conditional writes; credentials and endpoint from `AWS_*`."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import ArtifactError, DependencyError, StartupError
from assay.registry.folder import sweep_drafts
from assay.registry.place import Place

if TYPE_CHECKING:
    from obstore import PutMode

_RETRY_AFTER_S = 5.0
_TIMEOUT = timedelta(seconds=60)  # of one request
_CONNECT_TIMEOUT = timedelta(seconds=5)
_RETRY_TIMEOUT = timedelta(seconds=15)
_RETRIES = 3


class Bucket(Place):
    """Objects under a prefix of a bucket, with copies of versions in a local cache.

    Args:
        url: `s3://bucket/prefix`.
        cache: folder of the copies, for all buckets.

    Raises:
        StartupError: the extra `s3` is not installed, or the URL or `AWS_*` are wrong.
    """

    def __init__(self, url: str, cache: Path) -> None:
        super().__init__(url.rstrip("/"))
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError:
            raise StartupError(f"for the store {url}: pip install 'assay-rm[s3]'") from None
        self._lib = obstore
        try:
            self._objects = S3Store.from_url(
                self.url,
                client_options={
                    "allow_http": True,  # the endpoint says which of the two is meant
                    "connect_timeout": _CONNECT_TIMEOUT,
                    "timeout": _TIMEOUT,
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
            )
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise StartupError(f"the store {url} cannot be used: {_first_line(error)}") from None
        # Two buckets may hold different versions of the same name and number.
        self._cache = cache / hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns obstore's errors, and those of the cache folder, into DependencyError."""
        try:
            yield
        except (self._lib.exceptions.BaseError, OSError) as error:
            raise DependencyError(
                f"the store {self.url} cannot be used: {_first_line(error)}",
                retry_after_s=_RETRY_AFTER_S,
            ) from error

    def children(self, path: str) -> set[str]:
        """Names of the files and folders in a folder; none if it does not exist."""
        found = self._lib.list_with_delimiter(self._objects, f"{path}/" if path else None)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return {each.rstrip("/").rpartition("/")[2] for each in paths}

    def holding(self, path: str, file: str) -> set[str]:
        """Names of the folders in `path` that hold `file`."""
        depth = len(path.split("/"))
        split = (each.split("/") for each in self._list(path))
        return {parts[depth] for parts in split if parts[depth + 1 :] == [file]}

    def read(self, path: str) -> bytes | None:
        """An object's contents; None = there is none."""
        return self._get(path)[0]

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; whether it was written."""
        return self._put(path, data, "create")

    def change(self, path: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Write an object on condition that it is still the one that was read, else again."""
        while True:
            stored, tag = self._get(path)
            data = change(stored)
            if data is None or self._put(path, data, {"e_tag": tag} if tag else "create"):
                return

    def put(self, source: Path, path: str, digests: Mapping[str, str], last: str) -> bool:
        """Upload a folder, read it back, and then write the file that makes it count.

        Half an upload that a crash left is overwritten. So two different folders must not go to one
        path at the same time: one of them is refused, but the other may be found damaged. Numbers
        by `Store.reserve` see to it.
        """
        if self.read(f"{path}/{last}") is not None:
            return False
        for file in digests:
            self._lib.put(self._objects, f"{path}/{file}", source / file)
        for file, digest in digests.items():
            if self._sha256(f"{path}/{file}") != digest:
                raise ArtifactError(f"{file} was not written to {self.url} as it was read")
        return self.create(f"{path}/{last}", (source / last).read_bytes())

    def local(self, path: str, last: str, *, again: bool) -> Path | None:
        """A copy in the cache, downloaded under a temporary name."""
        target = self._cache / path
        if again:
            shutil.rmtree(target, ignore_errors=True)
        if (target / last).is_file():
            return target
        paths = self._list(path)
        if f"{path}/{last}" not in paths:
            return None
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            for each in paths:
                self._download(each, draft / each.removeprefix(f"{path}/"))
            draft.rename(target)
        except OSError:
            if not (target / last).is_file():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target

    def remove(self, path: str, first: str) -> None:
        """Delete a folder's objects, the one that makes it count before the others."""
        self._lib.delete(self._objects, f"{path}/{first}")
        if rest := self._list(path):
            self._lib.delete(self._objects, rest)

    def sweep(self, path: str) -> None:
        """Delete copies of what the bucket no longer holds, and downloads killed a day ago."""
        folder = self._cache / path
        sweep_drafts(folder)
        held = self.children(path)
        for copy in folder.glob("[!.]*"):
            if copy.name not in held:
                shutil.rmtree(copy, ignore_errors=True)

    def _list(self, path: str) -> list[str]:
        pages = self._lib.list(self._objects, path)
        return [each["path"] for page in pages for each in page]

    def _get(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            found = self._lib.get(self._objects, path)
        except FileNotFoundError:
            return None, None
        return bytes(found.bytes()), found.meta["e_tag"]

    def _put(self, path: str, data: bytes, mode: PutMode) -> bool:
        refusals = self._lib.exceptions.AlreadyExistsError, self._lib.exceptions.PreconditionError
        try:
            self._lib.put(self._objects, path, data, mode=mode)
        except refusals:
            return False
        return True

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        for piece in self._lib.get(self._objects, path).stream():
            digest.update(piece)
        return digest.hexdigest()

    def _download(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in self._lib.get(self._objects, path).stream():
                file.write(piece)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
