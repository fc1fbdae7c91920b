"""The manifest of a saved version: what is in the folder, where it comes from, how it measured."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from assay.errors import ArtifactError
from assay.models.inputs import InputFormat
from assay.schemas.models import Calibration
from assay.schemas.refs import ModelRef

MANIFEST = "manifest.json"


def _stays_inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith(("/", "\\")) or ".." in parts or ":" in path:
        raise ValueError(f"{path} leaves the version's folder")
    return path


RelativePath = Annotated[str, AfterValidator(_stays_inside)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Backbone(_Record):
    """The weights that adapters sit on, which the folder does not hold."""

    source: str = Field(description="`package:NAME/FOLDER`, a hub id, or a path.")
    revision: str | None = Field(default=None, description="Package version or hub commit.")
    sha256: dict[str, str] = Field(description="File name to SHA-256 of each weights file.")
    layers: int | None = Field(
        default=None, ge=1, description="Lowest layers that are kept; None = all."
    )
    pool: Literal["model", "mean"] = Field(
        default="model",
        description="`mean`: the head reads the mean of all tokens; else as its class pools.",
    )


class Manifest(_Record):
    """Contents of `NAME/N/manifest.json`."""

    schema_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    created: int = Field(description="Unix time at which the version was made.")
    kind: Literal["whole", "adapters"] = Field(
        description="`whole`: each member is a full model. `adapters`: peft adapters and heads."
    )
    members: list[RelativePath] = Field(
        min_length=1, description="Folder of each member; `.` = this one."
    )
    backbone: Backbone | None = Field(default=None, description="For adapters.")
    trunk_layers: int = Field(
        default=0, ge=0, description="Lowest layers that no member changes: they run once."
    )
    input_format: InputFormat
    max_tokens: int = Field(ge=8)
    parent: str | None = Field(default=None, description="`name@6`: the version it came from.")
    recipe: dict[str, Any] = Field(default_factory=dict)
    data_digest: str | None = Field(default=None, description="SHA-256 of the training pairs.")
    metrics: dict[str, Any] = Field(default_factory=dict)
    calibration: Calibration | None = None
    last_stream_id: str | None = Field(default=None, description="Last sample that went in.")
    lineage_id: str | None = Field(
        default=None, description="The run of online training that made it."
    )
    updates: int | None = Field(
        default=None, ge=0, description="Updates of that run that went into it."
    )
    status: Literal["released", "candidate", "rejected"] = Field(
        default="released", description="What the gate made of it; `released` = made by a person."
    )
    gate: dict[str, Any] | None = Field(default=None, description="The gate's report.")
    credits: list[str] = Field(default_factory=list, description="Data and models it is made of.")
    notes: list[str] = Field(default_factory=list, description="What a user should know.")
    files: dict[RelativePath, str] = Field(
        default_factory=dict, description="Path to SHA-256 of each file."
    )

    @property
    def ref(self) -> ModelRef:
        """The version's name."""
        return ModelRef(self.name, self.version)


def read_manifest(folder: Path) -> Manifest:
    """Read a version's manifest.

    Raises:
        ArtifactError: it is missing, or not a manifest of a kind that this release reads.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} has no {MANIFEST}") from error
    return parse_manifest(text, str(folder / MANIFEST))


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read a manifest's text; `where` it is from is for the message.

    Raises:
        ArtifactError: it is not a manifest of a kind that this release reads.
    """
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"]) or "its text"
        raise ArtifactError(f"{where}: {at}: {first['msg']}") from error


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the digest in the manifest.

    Raises:
        ArtifactError: a file is missing or changed; its name is in the message.
    """
    for path, expected in manifest.files.items():
        try:
            actual = file_sha256(folder / path)
        except FileNotFoundError as error:
            raise ArtifactError(f"{manifest.ref}: {path} is missing") from error
        if actual != expected:
            raise ArtifactError(f"{manifest.ref}: {path} differs from its digest in the manifest")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """Relative path to SHA-256 of every file of a version but the manifest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
