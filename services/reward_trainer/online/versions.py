"""The versions of the model that is trained: where they are, and how one is loaded."""

from __future__ import annotations

from typing import Literal

from assay.models.loading import load
from assay.models.manifest import Manifest
from assay.models.options import LoadOptions
from assay.models.resolve import resolve
from assay.models.reward_model import RewardModel
from assay.registry.store import Store
from assay.schemas.refs import ModelRef
from reward_trainer.fit.ensemble import resolve_device


class Versions:
    """Versions in the store, and the model as it was named to Assay, which may not be in it.

    Args:
        model: name, folder or hub id.
        store: saved versions.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ModelNotFoundError: there is no such model.
        StartupError: there is no such device.
    """

    def __init__(self, model: str, store: Store, device: str) -> None:
        self.store = store
        self._model = model
        self.device = resolve_device(device)
        name = model.partition("@")[0]
        if name in store.names():
            self.name, self._root = name, None
        else:
            self.name, self._root = resolve(model).ref

    def ref(self, version: int) -> ModelRef:
        """The name of a version."""
        return ModelRef(self.name, version)

    def released(self) -> int:
        """The newest version that a person made; 1 for a model outside of the store."""
        return self.store.newest(self.name) or self._root or 1

    def manifest(self, version: int) -> Manifest | None:
        """The manifest of a version; None for a model that Assay has not saved."""
        if version == self._root and version not in self.store.versions(self.name):
            return None
        return self.store.manifest(self.ref(version))

    def load(self, version: int) -> RewardModel:
        """A version, whole models in fp32 so that they can be trained.

        Raises:
            ModelNotFoundError: there is no such version.
            ArtifactError: it is damaged.
        """
        manifest = self.manifest(version)
        if manifest is None:
            return load(self._model, LoadOptions(device=self.device, dtype="float32"))
        folder = self.store.fetch(self.ref(version))
        dtype: Literal["auto", "float32"] = "auto" if manifest.kind == "adapters" else "float32"
        options = LoadOptions(device=self.device, dtype=dtype)
        return load(str(folder), options)
