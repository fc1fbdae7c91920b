"""New versions of a model for a measurement: its own weights, each with a little noise."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from assay.models.checkpoints import read_backbone, read_tokenizer
from assay.models.inputs import InputEncoder
from assay.models.loading import load, make_pooler
from assay.models.manifest import Manifest, read_manifest
from assay.models.members import AdapterMembers, Members, WholeMembers
from assay.models.options import LoadOptions
from assay.models.saving import save
from assay.schemas.refs import ModelRef

_NOISE = 0.05  # of a weight's own standard deviation: scores move, and stay near


def draft_copies(base: Path, drafts: Path, versions: Iterable[int]) -> Iterator[Path]:
    """Write a saved version's copies, one at each step, ready to be published.

    Args:
        base: folder of a saved version.
        drafts: where the copies go, `NAME/N` each.
        versions: their numbers.
    """
    manifest, model = read_manifest(base), load(str(base))
    weights = _own_weights(model.members)
    originals = [weight.clone() for weight in weights]
    for version in versions:
        generator = torch.Generator().manual_seed(version)
        for weight, original in zip(weights, originals, strict=True):
            noise = torch.randn(original.shape, generator=generator)
            spread = original.std() if original.numel() > 1 else original.abs()
            weight.copy_(original + _NOISE * spread * noise)
        fields = {"version": version, "parent": str(manifest.ref), "created": int(time.time())}
        made = manifest.model_copy(update={**fields, "calibration": None})
        yield save(model.members, model.encoder, made, drafts)


def draft_whole(adapters: Path, drafts: Path, ref: ModelRef) -> Path:
    """Write a whole model on the backbone of an ensemble: one member, its head untrained."""
    manifest, options = read_manifest(adapters), LoadOptions()
    assert manifest.backbone is not None  # noqa: S101 - they are adapters
    torch.manual_seed(0)
    model = read_backbone(manifest.backbone, options)
    tokenizer = read_tokenizer(str(adapters), options)
    whole = Manifest(
        name=ref.name,
        version=ref.version,
        created=int(time.time()),
        kind="whole",
        members=["."],
        input_format=manifest.input_format,
        max_tokens=manifest.max_tokens,
    )
    encoder = InputEncoder(tokenizer, manifest.input_format, manifest.max_tokens)
    return save(WholeMembers([make_pooler(model, tokenizer, options)]), encoder, whole, drafts)


def _own_weights(members: Members) -> list[torch.Tensor]:
    """The tensors that make one version differ from another: those of the adapters, or all."""
    if isinstance(members, AdapterMembers):
        named = members.model.named_parameters()
        return [p.data for name, p in named if "lora_" in name or "modules_to_save" in name]
    return [tensor.data for tensor in members.tensors() if tensor.is_floating_point()]
