"""Loading and warming the reward models of a replica."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from transformers.utils import logging as transformers_logging

from assay.models.backbones import Backbones
from assay.models.loading import load
from assay.models.scorer import EncodedInput, Scorer
from assay.schemas.refs import ModelRef
from reward_server.composite.plan import Parts, make_plan
from reward_server.origin import find_origin
from reward_server.reload.source import VersionSource

if TYPE_CHECKING:
    from assay.registry.store import Store
    from reward_server.composite.plan import Companion
    from reward_server.origin import Origin
    from reward_server.settings import ServerSettings

CPU_BATCH_TOKENS = 1024
GPU_BATCH_TOKENS = 16_384
_WARM_UP_TOKENS = (8, 64)


def load_scorer(settings: ServerSettings) -> tuple[Scorer, VersionSource | None]:
    """Load the version that serves at first, and say where others come from; None = nowhere.

    Raises:
        ModelLoadError: it cannot be served.
        DependencyError: the store does not answer.
    """
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    silence_transformers()
    origin = find_origin(settings)
    source = _source(origin, settings)
    return source.load(origin.ref.version), source if origin.follows else None


def load_parts(settings: ServerSettings) -> Parts | None:
    """Load the models of a composite that stay beside the served one; None = no composite.

    Raises:
        StartupError: the components do not make a composite.
        ModelLoadError: one of the models cannot be served.
        DependencyError: the store does not answer.
    """
    origin = find_origin(settings)
    plan = make_plan(settings, origin)
    if plan is None:
        return None
    loaded = {
        companion.weighing.name: _load_companion(companion, origin.store, settings)
        for companion in plan.companions
    }
    return Parts(plan, loaded)


def _load_companion(companion: Companion, store: Store, settings: ServerSettings) -> Scorer:
    ref, location = companion.ref, companion.location
    if ref is not None and ref.version in store.versions(ref.name):
        location = str(store.fetch(ref))
    return load(location, settings.load)


def silence_transformers() -> None:
    """Keep its progress bars and reports of weights out of the log."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _source(origin: Origin, settings: ServerSettings) -> VersionSource:
    backbones = Backbones()

    def load_version(version: int) -> Scorer:
        if origin.location is not None and version == origin.ref.version:
            return load(origin.location, settings.load, backbones=backbones)
        folder = origin.store.fetch(ModelRef(origin.ref.name, version))
        return load(str(folder), settings.load, backbones=backbones)

    def weight_bytes(version: int) -> int:
        if origin.location is not None and version == origin.ref.version:
            return 0
        folder = origin.store.fetch(ModelRef(origin.ref.name, version))
        return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))

    return VersionSource(origin.aliases, origin.store, load_version, weight_bytes)


def warm_up_batches(scorer: Scorer) -> list[list[EncodedInput]]:
    """One short and one middling text, each a batch."""
    example = scorer.encode("Is it ready?", "It is.")
    batches = []
    for tokens in _WARM_UP_TOKENS:
        row = (example.ids * tokens)[: min(tokens, scorer.card.assay.max_tokens)]
        types = None if example.type_ids is None else (0,) * len(row)
        batches.append([EncodedInput(row, types)])
    return batches


def default_batch_tokens() -> int:
    """The token budget of a forward pass where the settings name none."""
    return GPU_BATCH_TOKENS if torch.cuda.is_available() else CPU_BATCH_TOKENS
