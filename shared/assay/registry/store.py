"""The store: every version of every model, in a folder or a bucket; the truth about all of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from assay.errors import (
    ArtifactError,
    ConflictError,
    InvalidInputError,
    ModelNotFoundError,
    StartupError,
)
from assay.models.manifest import (
    MANIFEST,
    Manifest,
    parse_manifest,
    read_manifest,
    verify_files,
)
from assay.models.resolve import EMBEDDED
from assay.registry.aliases import Aliases
from assay.registry.bucket import Bucket
from assay.registry.folder import Folder
from assay.registry.place import Place
from assay.schemas.refs import ModelRef, parse_pin

logger = logging.getLogger(__name__)

_ALIASES = "aliases.json"
# What is said about a version, not what it is: publishing again may say it otherwise.
_REMARKS = {"created", "metrics", "status", "gate", "notes"}


class Store:
    """Versions `NAME/N/`, aliases `NAME/aliases.json`, reserved numbers `NAME/reserved/N`.

    The versions that the package carries count as the store's own, but are never written. Safe to
    share between threads and processes. Every method raises DependencyError while the place where
    the store lies cannot be used, and InvalidInputError for a name that is none.

    Args:
        url_or_path: a folder, `file://...` or `s3://bucket/prefix`.
        cache: folder for what is fetched from a bucket; None = `~/.assay/cache`.

    Raises:
        StartupError: a kind of URL that is not known, or wrong settings of the bucket.
    """

    def __init__(self, url_or_path: str, cache: Path | None = None) -> None:
        self._place = _place(url_or_path, cache or Path("~/.assay/cache").expanduser())
        self._embedded = Folder(EMBEDDED)

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._place.url

    def names(self) -> list[str]:
        """Models with a version, sorted."""
        with self._place.errors():
            names = self._place.children("") | self._embedded.children("")
        return sorted(name for name in names if _is_name(name) and self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Versions with a manifest, oldest first."""
        return sorted(self._stored(name) | _numbers(self._embedded.holding(name, MANIFEST)))

    def newest(self, name: str) -> int | None:
        """The newest version that is released, neither candidate nor rejected; None = none.

        Damaged ones are left out, with a warning: another version may serve all the same.
        """
        for version in reversed(self.versions(name)):
            try:
                if self.manifest(ModelRef(name, version)).status == "released":
                    return version
            except ArtifactError as error:
                logger.warning("version left out", extra={"reason": error.detail})
        return None

    def manifest(self, ref: ModelRef) -> Manifest:
        """A version's manifest.

        Raises:
            ModelNotFoundError: there is no such version.
            ArtifactError: its manifest is damaged, or that of another version.
        """
        path = _path(ref)
        with self._place.errors():
            data = self._place.read(f"{path}/{MANIFEST}")
        if data is None:
            data = self._embedded.read(f"{path}/{MANIFEST}")
        if data is None:
            raise self._missing(ref)
        manifest = parse_manifest(data, f"{self.url}/{path}/{MANIFEST}")
        if manifest.ref != ref:
            raise ArtifactError(f"{self.url}/{path} calls itself {manifest.ref}")
        return manifest

    def reserve(self, name: str, identity: str) -> int:
        """A number for a version that is to come; the same identity gets the same one again.

        Numbers are never given twice, be it after a crash or after `collect`.

        Args:
            name: the model.
            identity: what the version will be, such as a training run and its updates.
        """
        if not identity:
            raise InvalidInputError("a reservation needs an identity")
        digest = hashlib.sha256(identity.encode()).hexdigest()
        known = f"{_checked(name)}/identities/{digest}"
        with self._place.errors():
            while True:
                number = self._place.read(known)
                if number is not None:
                    return _parsed_number(number, f"{self.url}/{known}")
                self._place.create(known, str(self._claim(name, identity.encode())).encode())

    def publish(self, folder: Path, ref: ModelRef) -> Manifest:
        """Copy a saved version into the store, all or nothing; the same again changes nothing.

        Returns:
            The manifest in the store: that of the first time.

        Raises:
            ConflictError: the number holds another version.
            ArtifactError: the folder is damaged, or no version of that name and number.
        """
        manifest = read_manifest(folder)
        if manifest.ref != ref:
            raise ArtifactError(f"{folder} is {manifest.ref}, not {ref}")
        with self._place.errors():
            verify_files(folder, manifest)
            if self._place.put(folder, _path(ref), manifest.files, MANIFEST):
                return manifest
        stored = self.manifest(ref)
        if stored.model_dump(exclude=_REMARKS) != manifest.model_dump(exclude=_REMARKS):
            raise ConflictError(f"{ref} is another version already, and versions are immutable")
        return stored

    def fetch(self, ref: ModelRef) -> Path:
        """A local folder with a version whose digests are right.

        Raises:
            ModelNotFoundError: there is no such version.
            ArtifactError: it is damaged in the store.
        """
        try:
            return self._verified(ref, again=False)
        except ArtifactError:  # perhaps only its copy on this machine is
            return self._verified(ref, again=True)

    def aliases(self, name: str) -> Aliases:
        """The aliases; all None at epoch 0 where none were written."""
        path = f"{_checked(name)}/{_ALIASES}"
        with self._place.errors():
            return self._parsed_aliases(path, self._place.read(path))

    def write_aliases(self, name: str, aliases: Aliases) -> bool:
        """Write the aliases unless the store is ahead (`Aliases.may_replace`).

        Returns:
            Whether the store holds them now.
        """
        return aliases == self.update_aliases(
            name, lambda stored: aliases if aliases.may_replace(stored) else stored
        )

    def update_aliases(self, name: str, change: Callable[[Aliases], Aliases]) -> Aliases:
        """Read, change and write in one step; returns what the store holds now."""
        path = f"{_checked(name)}/{_ALIASES}"
        held = Aliases()

        def rewrite(data: bytes | None) -> bytes | None:
            nonlocal held
            stored = self._parsed_aliases(path, data)
            held = change(stored)
            return None if held == stored else held.model_dump_json(indent=2).encode()

        with self._place.errors():
            self._place.change(path, rewrite)
        return held

    def read_note(self, name: str, file: str) -> bytes | None:
        """A small file that lies beside a model's versions; None = there is none."""
        with self._place.errors():
            return self._place.read(f"{_checked(name)}/{file}")

    def change_note(
        self, name: str, file: str, change: Callable[[bytes | None], bytes | None]
    ) -> None:
        """Read and write such a file in one step; `change` gives None to leave it as it is.

        It may be called again if somebody else was faster.
        """
        with self._place.errors():
            self._place.change(f"{_checked(name)}/{file}", change)

    def collect(self, name: str, keep: int, leased: set[int]) -> list[int]:
        """Delete old versions, and what killed writers have left.

        Their numbers stay taken, as the newest version is always kept. Kept are the newest `keep`,
        those under an alias and their parents, and those leased.

        Returns:
            What was deleted.
        """
        gone = self.collectable(name, keep, leased)
        with self._place.errors():
            for version in gone:
                self._place.remove(f"{name}/{version}", MANIFEST)
            self._place.sweep(name)
        return gone

    def collectable(self, name: str, keep: int, leased: set[int]) -> list[int]:
        """What `collect` would delete."""
        if keep < 1:
            raise InvalidInputError(f"keep {keep}: at least the newest version is kept")
        stored = sorted(self._stored(name))
        aliased = self.aliases(name).versions()
        parents = {self._parent(ModelRef(name, version)) for version in aliased & set(stored)}
        kept = aliased | parents | leased | set(stored[-keep:])
        return [version for version in stored if version not in kept]

    def _parent(self, ref: ModelRef) -> int | None:
        parent = self.manifest(ref).parent
        name, version = parse_pin(parent) if parent else (None, None)
        return version if name == ref.name else None

    def _stored(self, name: str) -> set[int]:
        with self._place.errors():
            return _numbers(self._place.holding(_checked(name), MANIFEST))

    def _claim(self, name: str, identity: bytes) -> int:
        """A number that nobody has; the newest one if it is ours since before a crash."""
        reserved = _numbers(self._place.children(f"{name}/reserved"))
        saved = self._place.children(name) | self._embedded.children(name)
        taken = reserved | _numbers(saved) | self.aliases(name).versions()
        number = max(taken, default=0)
        while number == 0 or self._place.read(f"{name}/reserved/{number}") != identity:
            number += 1
            if self._place.create(f"{name}/reserved/{number}", identity):
                break
        return number

    def _verified(self, ref: ModelRef, *, again: bool) -> Path:
        with self._place.errors():
            folder = self._place.local(_path(ref), MANIFEST, again=again)
            folder = folder or self._embedded.local(_path(ref), MANIFEST, again=again)
            if folder is None:
                raise self._missing(ref)
            verify_files(folder, read_manifest(folder))
        return folder

    def _missing(self, ref: ModelRef) -> ModelNotFoundError:
        return ModelNotFoundError(f"the store {self.url} has no {ref}")

    def _parsed_aliases(self, path: str, data: bytes | None) -> Aliases:
        if data is None:
            return Aliases()
        try:
            return Aliases.model_validate_json(data)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise ArtifactError(f"{self.url}/{path} is damaged: {why}") from None


def _place(url: str, cache: Path) -> Place:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Folder(Path(url).expanduser().absolute())
    if scheme == "file":
        return Folder(Path(rest).expanduser().absolute())
    if scheme == "s3":
        return Bucket(url, cache)
    raise StartupError(f"store {url}: a store is a folder, file://... or s3://bucket/prefix")


def _path(ref: ModelRef) -> str:
    return f"{_checked(ref.name)}/{ref.version}"


def _checked(name: str) -> str:
    if not _is_name(name):
        raise InvalidInputError(f"{name[:80]!r} is not the name of a model")
    return name


def _is_name(name: str) -> bool:
    try:
        return parse_pin(name) == (name, None)
    except InvalidInputError:
        return False


def _numbers(names: set[str]) -> set[int]:
    return {int(name) for name in names if name.isdecimal()}


def _parsed_number(data: bytes, where: str) -> int:
    try:
        return int(data)
    except ValueError:
        raise ArtifactError(f"{where} is damaged: it holds a version's number") from None
