"""Finding a reward model by what a user calls it, without loading anything heavy."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assay.errors import InvalidInputError, ModelNotFoundError
from assay.models.manifest import MANIFEST, read_manifest
from assay.schemas.refs import ModelRef, parse_pin, slug

EMBEDDED = Path(__file__).parent / "embedded"
DEFAULT_MODEL = "assay-minilm"


@dataclass(frozen=True)
class Source:
    """Where a reward model is.

    Attributes:
        kind: `artifact` = a version saved by Assay, `folder` = a plain transformers model,
            `hub` = a Hugging Face id.
        location: the folder, or the hub id.
        ref: the name and version under which it is served.
    """

    kind: Literal["artifact", "folder", "hub"]
    location: str
    ref: ModelRef

    @property
    def path(self) -> Path:
        """The folder of an artifact or a plain model."""
        return Path(self.location)


def resolve(model: str, store: Path | None = None) -> Source:
    """Find a reward model: a folder, a name in the store or the package, or a hub id.

    Args:
        model: `assay-minilm`, `name` (its newest released version), `name@7`, a path, or
            `org/model`.
        store: folder with `NAME/N/` versions.

    Raises:
        ModelNotFoundError: nothing is there under that name.
        ArtifactError: a saved version without a readable manifest.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _from_folder(path.resolve())
    for root in (store, EMBEDDED):
        found = _from_root(root, model) if root is not None else None
        if found:
            return found
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return Source("hub", model, ModelRef(slug(model), 1))
    raise ModelNotFoundError(
        f"no reward model {model!r}: not a folder, not in the store, not embedded "
        f"(there is {DEFAULT_MODEL}), and not a hub id of the form org/model"
    )


def _from_folder(path: Path) -> Source:
    if (path / MANIFEST).is_file():
        return Source("artifact", str(path), read_manifest(path).ref)
    if (path / "config.json").is_file():
        return Source("folder", str(path), ModelRef(slug(path.name), 1))
    newest = _newest_released(path)
    if newest is not None:
        return _from_folder(path / str(newest))
    raise ModelNotFoundError(f"{path} has neither {MANIFEST} nor config.json")


def _from_root(root: Path, model: str) -> Source | None:
    try:
        name, version = parse_pin(model)
    except InvalidInputError:
        return None
    if version is None:
        version = _newest_released(root / name)
    return _from_folder(root / name / str(version)) if version in _versions(root / name) else None


def _newest_released(folder: Path) -> int | None:
    """What a name alone stands for: what the gate let wait, or rejected, is asked for by number."""
    for version in sorted(_versions(folder), reverse=True):
        if read_manifest(folder / str(version)).status == "released":
            return version
    return None


def _versions(folder: Path) -> set[int]:
    if not folder.is_dir():
        return set()
    return {
        int(path.name)
        for path in folder.iterdir()
        if path.name.isdecimal() and (path / MANIFEST).is_file()
    }


def backbone_folder(source: str) -> str:
    """The folder or hub id of a manifest's backbone; `package:NAME/FOLDER` is an installed package.

    Raises:
        ModelNotFoundError: the package is not installed.
    """
    if not source.startswith("package:"):
        return source
    package, _, folder = source.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFoundError(
            f"the backbone is in the package {package.replace('_', '-')}, which is not installed: "
            "pip install 'assay-rm[models]'"
        )
    return str(Path(spec.submodule_search_locations[0]) / folder)
