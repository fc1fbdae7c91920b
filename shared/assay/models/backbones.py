"""Backbones shared by all versions that sit on them, so that a new version loads adapters only."""

from __future__ import annotations

import copy
import threading
import weakref
from itertools import chain
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from assay.models.checkpoints import read_backbone
from assay.models.manifest import Backbone
from assay.models.options import LoadOptions


class _Key(NamedTuple):
    """Everything that makes one loaded backbone differ from another."""

    backbone: str
    options: str


class Backbones:
    """Hands out copies of backbones whose weights are the same memory; safe between threads.

    A backbone is kept for as long as a copy of it is in use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pristine: weakref.WeakValueDictionary[_Key, PreTrainedModel] = (
            weakref.WeakValueDictionary()
        )

    def take(self, backbone: Backbone, options: LoadOptions) -> PreTrainedModel:
        """A model for one version to put its adapters on.

        Its modules are its own, its parameters and buffers are every copy's: who writes to them
        in place changes all. Where `device_map` places layers, hooks tie the modules to the
        weights, and nothing is shared.

        Raises:
            ModelNotFoundError, ArtifactError: see `read_backbone`.
        """
        if options.device_map is not None:
            return read_backbone(backbone, options)
        key = _Key(backbone.model_dump_json(), options.model_dump_json())
        with self._lock:
            pristine = self._pristine.get(key)
            if pristine is None:
                pristine = self._pristine[key] = read_backbone(backbone, options)
        return _share(pristine)


def _share(pristine: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules around the same tensors, which keeps the original alive."""
    tensors = chain(pristine.parameters(), pristine.buffers())
    shared = copy.deepcopy(pristine, {id(tensor): tensor for tensor in tensors})
    weakref.finalize(shared, _let_go, pristine).atexit = False
    return shared


def _let_go(_: nn.Module) -> None:
    """Called when a copy is gone: its hold on the original ends with the call."""
