"""New versions of a model for a measurement: its own weights, each with a little noise."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from assay.models.loading import load
from assay.models.manifest import read_manifest
from assay.models.members import AdapterMembers, Members
from assay.models.saving import save
from assay.registry.store import Store
from assay.schemas.refs import ModelRef

_NOISE = 0.05  # of a weight's own standard deviation: scores move, and stay near


def publish_copies(store: Store, base: ModelRef, versions: Iterator[int]) -> Iterator[ModelRef]:
    """Publish one new version at each step.

    Args:
        store: where `base` is, and where the versions go to.
        base: a saved version.
        versions: the numbers to give.
    """
    folder = store.fetch(base)
    manifest, model = read_manifest(folder), load(str(folder))
    weights = _own_weights(model.members)
    originals = [weight.clone() for weight in weights]
    for version in versions:
        generator = torch.Generator().manual_seed(version)
        for weight, original in zip(weights, originals, strict=True):
            noise = torch.randn(original.shape, generator=generator)
            spread = original.std() if original.numel() > 1 else original.abs()
            weight.copy_(original + _NOISE * spread * noise)
        ref = ModelRef(base.name, version)
        fields = {"version": version, "parent": str(base), "created": int(time.time())}
        with tempfile.TemporaryDirectory() as draft:
            made = save(
                model.members,
                model.encoder,
                manifest.model_copy(update={**fields, "calibration": None}),
                Path(draft),
            )
            store.publish(made, ref)
        yield ref


def _own_weights(members: Members) -> list[torch.Tensor]:
    """The tensors that make one version differ from another: those of the adapters, or all."""
    if isinstance(members, AdapterMembers):
        named = members.model.named_parameters()
        return [p.data for name, p in named if "lora_" in name or "modules_to_save" in name]
    return [tensor.data for tensor in members.tensors() if tensor.is_floating_point()]
