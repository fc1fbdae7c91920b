"""Saved versions without a model in them, for what only moves files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.models.manifest import MANIFEST, Manifest, folder_digests
from assay.schemas.refs import ModelRef

FILES = {"tokenizer.json": b"{}", "members/member_0/adapter.safetensors": bytes(range(256)) * 40}


def save_version(
    folder: Path, ref: ModelRef, files: dict[str, bytes] | None = None, **fields: Any
) -> Manifest:
    """Write a version's files and its manifest."""
    for path, data in (FILES if files is None else files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    manifest = Manifest.model_validate(
        {
            "name": ref.name,
            "version": ref.version,
            "created": 1_700_000_000,
            "kind": "adapters",
            "members": ["members/member_0"],
            "input_format": "concat",
            "max_tokens": 128,
            "files": folder_digests(folder),
            **fields,
        }
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return manifest
