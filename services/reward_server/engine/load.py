"""Loading and warming the reward model of a replica."""

from __future__ import annotations

import warnings

import torch
from transformers.utils import logging as transformers_logging

from assay.models.loading import load
from assay.models.scorer import EncodedInput, Scorer
from reward_server.settings import ServerSettings

CPU_BATCH_TOKENS = 1024
GPU_BATCH_TOKENS = 16_384
_WARM_UP_TOKENS = (8, 64)


def load_scorer(settings: ServerSettings) -> Scorer:
    """Load the model that the settings name.

    Raises:
        ModelLoadError: it cannot be served.
    """
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is a log
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    return load(settings.model, settings.load, settings.store_path)


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
