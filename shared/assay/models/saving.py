"""Writing a version: member weights, tokenizer, manifest with digests, all or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.errors import ConflictError
from assay.models.calibration import PairInputs, calibrate
from assay.models.inputs import InputEncoder
from assay.models.manifest import MANIFEST, Manifest, folder_digests
from assay.models.members import AdapterMembers, Members, WholeMembers


def save(
    members: Members,
    encoder: InputEncoder,
    manifest: Manifest,
    store: Path,
    calibration_pairs: Sequence[PairInputs] | None = None,
    *,
    cross_fitted: NDArray[np.float64] | None = None,
    level: float = 0.0,
) -> Path:
    """Write a version to `store/NAME/N`, under a temporary name first.

    An ensemble is calibrated on the way: each member's head bias is shifted in place to a mean of
    `level` over the calibration texts. Without calibration pairs its spread stays unknown to users.

    Args:
        members: what is saved; an ensemble's heads are centred in place.
        encoder: its tokenizer is saved too.
        manifest: everything but `kind`, `members`, `calibration` and `files`, which are set here.
        store: folder of all models.
        calibration_pairs: encoded (chosen, rejected) that no member was trained on, or any with
            `cross_fitted`.
        cross_fitted: their differences by members trained without them; see `calibrate`.
        level: the mean over them that each member of an ensemble gets.

    Raises:
        ConflictError: the version exists; versions are immutable.
    """
    target = store / manifest.name / str(manifest.version)
    if target.exists():
        raise ConflictError(f"{manifest.ref} exists in {store}, and versions are immutable")
    calibration = None
    if calibration_pairs and members.count > 1:
        calibration = calibrate(members, calibration_pairs, cross_fitted=cross_fitted, level=level)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        folders = _save_members(members, draft, manifest)
        encoder.tokenizer.save_pretrained(draft)
        complete = manifest.model_copy(
            update={
                "kind": "adapters" if isinstance(members, AdapterMembers) else "whole",
                "members": folders,
                "calibration": calibration,
                "files": folder_digests(draft),
            }
        )
        (draft / MANIFEST).write_text(complete.model_dump_json(indent=2), encoding="utf-8")
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _save_members(members: Members, folder: Path, manifest: Manifest) -> list[str]:
    if isinstance(members, AdapterMembers):
        source = manifest.backbone.source if manifest.backbone else None
        return [_save_adapter(members, name, folder, source) for name in members.names]
    if not isinstance(members, WholeMembers):
        raise TypeError(f"no way to save {type(members).__name__}")
    names = ["."] if members.count == 1 else [f"members/{i}" for i in range(members.count)]
    for name, pooler in zip(names, members.poolers, strict=True):
        pooler.model.save_pretrained(folder / name)
    return names


def _save_adapter(members: AdapterMembers, name: str, folder: Path, source: str | None) -> str:
    # Where the backbone lay on this machine is nobody's business, and wrong on any other.
    members.model.peft_config[name].base_model_name_or_path = source
    members.model.save_pretrained(
        str(folder / "members"), selected_adapters=[name], save_embedding_layers=False
    )
    (folder / "members" / "README.md").unlink(missing_ok=True)  # peft's unfilled model card
    return f"members/{name}"
