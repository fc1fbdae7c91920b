"""Reading checkpoints with transformers: safetensors only, one label, and a head that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from assay.errors import ArtifactError, ModelLoadError, ModelNotFoundError
from assay.models.manifest import Backbone, file_sha256
from assay.models.options import LoadOptions
from assay.models.pooling import ensure_head_bias
from assay.models.resolve import backbone_folder

# Families whose position ids start after the pad id, which costs that many positions.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")
_UNLIMITED = 1_000_000


class Checkpoint(NamedTuple):
    """What `from_pretrained` gave, and the weights that it did not find."""

    model: PreTrainedModel
    missing: tuple[str, ...]


def read_classifier(location: str, options: LoadOptions) -> PreTrainedModel:
    """A whole reward model from a folder or hub id.

    Raises:
        ModelNotFoundError: nothing is there.
        ModelLoadError: it has several labels, or no trained head.
    """
    config = _read(AutoConfig, location, options)
    if config.num_labels != 1:
        raise ModelLoadError(
            f"{location} has {config.num_labels} labels; a reward model has one score"
        )
    model, missing = _read_model(location, options)
    if missing:
        raise ModelLoadError(
            f"{location} is no reward model: it has no weights for {', '.join(missing[:3])}"
        )
    return model


def read_backbone(backbone: Backbone, options: LoadOptions) -> PreTrainedModel:
    """The sequence classifier under an ensemble's adapters, its own head still untrained.

    Raises:
        ModelNotFoundError: the backbone is not there.
        ArtifactError: its weights are not those that the adapters were trained on.
    """
    location = backbone_folder(backbone.source)
    for name, expected in backbone.sha256.items():
        path = Path(location) / name
        if path.is_file() and file_sha256(path) != expected:
            raise ArtifactError(f"backbone {backbone.source}: {name} differs from its digest")
    on_hub = not Path(location).is_dir()
    extra: dict[str, Any] = {}
    if on_hub and backbone.revision:
        extra["revision"] = backbone.revision
    if backbone.layers is not None:
        extra["num_hidden_layers"] = backbone.layers
    model, _ = _read_model(location, options, num_labels=1, **extra)
    ensure_head_bias(model)
    return model


def read_tokenizer(location: str, options: LoadOptions) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with its own padding and truncation switched off.

    Raises:
        ModelNotFoundError: nothing is there.
        ModelLoadError: it is no fast tokenizer, so nobody could say which token is whose.
    """
    tokenizer: PreTrainedTokenizerBase = _read(AutoTokenizer, location, options)
    if not tokenizer.is_fast:
        raise ModelLoadError(f"{location} has no fast tokenizer (tokenizer.json)")
    # Threads share it: a call that changed its padding or truncation would race with the others.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    # The limit is ours to keep; transformers would only log a warning for each long input.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def token_limit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest input that a model takes, in tokens."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or _UNLIMITED
    if config.model_type in _OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    return int(min(positions, tokenizer.model_max_length, _UNLIMITED))


def pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the model's, the tokenizer's, or 0, which the mask hides."""
    for candidate in (model.config.get_text_config().pad_token_id, tokenizer.pad_token_id):
        if isinstance(candidate, int) and candidate >= 0:
            return candidate
    return 0


def _read_model(location: str, options: LoadOptions, **config: Any) -> Checkpoint:
    device = _device(options)
    placement = {} if options.device_map is None else {"device_map": options.device_map}
    model, report = _read(
        AutoModelForSequenceClassification,
        location,
        options,
        use_safetensors=options.allow_pickle != location,
        dtype=_dtype(options, device),
        output_loading_info=True,
        **placement,
        **config,
    )
    model.eval().requires_grad_(False)
    if options.device_map is None:
        _move(model, device)
    return Checkpoint(model, tuple(sorted(report["missing_keys"])))


def _read(factory: Any, location: str, options: LoadOptions, **arguments: Any) -> Any:
    trusted = options.trust_remote_code == location
    try:
        return factory.from_pretrained(location, trust_remote_code=trusted, **arguments)
    except OSError as error:
        raise ModelNotFoundError(f"{location}: {_first_line(error)}") from error
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelLoadError(f"{location} does not load: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _device(options: LoadOptions) -> torch.device:
    if options.device != "auto":
        return torch.device(options.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(options: LoadOptions, device: torch.device) -> str:
    if options.dtype != "auto":
        return options.dtype
    return "float32" if device.type == "cpu" else "auto"


def _move(model: PreTrainedModel, device: torch.device) -> None:
    try:
        nn.Module.to(model, device)
    except torch.OutOfMemoryError as error:
        size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30
        raise ModelLoadError(
            f"{size:.1f} GiB of weights do not fit on {device}: set device_map=auto to spread them"
        ) from error
