"""From a name to a reward model that can score: saved versions, folders and hub ids."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from assay.errors import ArtifactError
from assay.models.backbones import Backbones
from assay.models.checkpoints import (
    pad_id,
    read_backbone,
    read_classifier,
    read_tokenizer,
    token_limit,
)
from assay.models.inputs import InputEncoder, InputFormat
from assay.models.manifest import (
    MANIFEST,
    Backbone,
    Manifest,
    file_sha256,
    read_manifest,
    verify_files,
)
from assay.models.members import AdapterMembers, Members, WholeMembers
from assay.models.options import LoadOptions
from assay.models.pooling import Pooler, ensure_head_bias, reward_head
from assay.models.resolve import Source, resolve
from assay.models.reward_model import RewardModel
from assay.schemas.models import ModelCard, ModelInfo
from assay.schemas.refs import ModelRef


def load(
    model: str,
    options: LoadOptions | None = None,
    store: Path | None = None,
    backbones: Backbones | None = None,
) -> RewardModel:
    """Load a reward model by folder, name or hub id; see `resolve` for what a name may be.

    Args:
        model: what to load.
        options: how.
        store: folder of saved versions.
        backbones: what adapters share their backbone with; None = nothing. A shared one must not
            be trained.

    Raises:
        ModelNotFoundError: nothing is there.
        ArtifactError: a saved version is damaged.
        ModelLoadError: it loads, and is no reward model with one score, or too large.
    """
    options = options or LoadOptions()
    source = resolve(model, store)
    if source.kind == "artifact":
        return _load_artifact(source.path, options, backbones)
    return _load_plain(source, options)


def _load_artifact(folder: Path, options: LoadOptions, backbones: Backbones | None) -> RewardModel:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    tokenizer = read_tokenizer(str(folder), options)
    members = _read_members(folder, manifest, tokenizer, options, backbones)
    limit = min(manifest.max_tokens, options.max_input_tokens or manifest.max_tokens)
    input_format = options.input_format or manifest.input_format
    encoder = InputEncoder(tokenizer, input_format, limit, options.system)
    card = _card(
        manifest.ref,
        created=manifest.created,
        notes=[*manifest.notes, *_pooling_notes(members, tokenizer, options)],
        digest=file_sha256(folder / MANIFEST),
        encoder=encoder,
        members=members,
        options=options,
        manifest=manifest,
    )
    return RewardModel(card, encoder, members)


def _read_members(
    folder: Path,
    manifest: Manifest,
    tokenizer: PreTrainedTokenizerBase,
    options: LoadOptions,
    backbones: Backbones | None,
) -> Members:
    if manifest.kind == "adapters":
        return _read_adapters(folder, manifest, tokenizer, options, backbones)
    models = [read_classifier(str(folder / name), options) for name in manifest.members]
    if manifest.calibration is not None:
        for model, offset in zip(models, manifest.calibration.offsets, strict=True):
            _restore_offset(model, offset)
    return WholeMembers([make_pooler(model, tokenizer, options) for model in models])


def _restore_offset(model: PreTrainedModel, offset: float) -> None:
    """Centre a head whose class has no bias, so that transformers left the saved one out."""
    head = reward_head(model)
    if getattr(head, "bias", None) is None:
        ensure_head_bias(model)
        head.bias.data.fill_(-offset)


def _read_adapters(
    folder: Path,
    manifest: Manifest,
    tokenizer: PreTrainedTokenizerBase,
    options: LoadOptions,
    backbones: Backbones | None,
) -> AdapterMembers:
    if manifest.backbone is None:
        raise ArtifactError(f"{manifest.ref} has adapters and names no backbone")
    read = read_backbone if backbones is None else backbones.take
    base = read(manifest.backbone, options)
    pooler = make_pooler(base, tokenizer, options, manifest.backbone)
    names = [f"member_{index}" for index in range(len(manifest.members))]
    folders = [str(folder / member) for member in manifest.members]
    model = PeftModel.from_pretrained(base, folders[0], adapter_name=names[0])
    for name, member in zip(names[1:], folders[1:], strict=True):
        model.load_adapter(member, adapter_name=name)
    model.eval()
    return AdapterMembers(model, pooler, names, manifest.trunk_layers)


def _load_plain(source: Source, options: LoadOptions) -> RewardModel:
    model = read_classifier(source.location, options)
    tokenizer = read_tokenizer(source.location, options)
    members = WholeMembers([make_pooler(model, tokenizer, options)])
    limit = token_limit(model.config, tokenizer)
    encoder = InputEncoder(
        tokenizer,
        options.input_format or default_format(tokenizer),
        min(limit, options.max_input_tokens or limit),
        options.system,
    )
    card = _card(
        source.ref,
        created=0,
        notes=_pooling_notes(members, tokenizer, options),
        digest=_plain_digest(source, model),
        encoder=encoder,
        members=members,
        options=options,
        manifest=None,
    )
    return RewardModel(card, encoder, members)


def make_pooler(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: LoadOptions,
    backbone: Backbone | None = None,
) -> Pooler:
    """The pooler that loading uses for a model; it must be made before peft wraps the model."""
    pool = "mean" if backbone and backbone.pool == "mean" else options.pool
    return Pooler(model, pool, pad_id(model, tokenizer))


def default_format(tokenizer: PreTrainedTokenizerBase) -> InputFormat:
    """`chat` if there is a template, `pair` if there is a separator token, else `concat`."""
    if tokenizer.chat_template:
        return "chat"
    return "pair" if tokenizer.sep_token else "concat"


def describe_backbone(
    source: str,
    revision: str | None,
    folder: Path,
    layers: int | None = None,
    pool: Literal["model", "mean"] = "model",
) -> Backbone:
    """The manifest entry of a backbone, with the digests of its weights."""
    weights = sorted(folder.glob("*.safetensors"))
    return Backbone(
        source=source,
        revision=revision,
        sha256={path.name: file_sha256(path) for path in weights},
        layers=layers,
        pool=pool,
    )


def _pooling_notes(
    members: Members, tokenizer: PreTrainedTokenizerBase, options: LoadOptions
) -> list[str]:
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    first = members.poolers[0] if isinstance(members, WholeMembers) else None
    if pad is None or pad != eos or first is None or not hasattr(first.model, "score"):
        return []
    if options.pool == "transformers":
        return ["pad and end token are the same, and pool=transformers reads one token early"]
    return [
        "pad and end token are the same: transformers' own forward pass reads the score one token "
        "early; Assay reads it at the last real token (pool=transformers reproduces the former)"
    ]


def _pool(members: Members, options: LoadOptions) -> str:
    return members.pooler.pool if isinstance(members, AdapterMembers) else options.pool


def _plain_digest(source: Source, model: PreTrainedModel) -> str:
    commit = getattr(model.config, "_commit_hash", None)
    if source.kind == "hub" and commit:
        return hashlib.sha256(f"{source.location}@{commit}".encode()).hexdigest()
    digest = hashlib.sha256()
    for path in sorted(source.path.glob("*")):
        if path.suffix in (".safetensors", ".bin", ".json", ".jinja"):
            digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _card(
    ref: ModelRef,
    *,
    created: int,
    notes: list[str],
    digest: str,
    encoder: InputEncoder,
    members: Members,
    options: LoadOptions,
    manifest: Manifest | None,
) -> ModelCard:
    info = ModelInfo(
        alias=[],
        replicas=0,
        format=encoder.format,
        pool=_pool(members, options),
        notes=notes,
        members=members.count,
        max_tokens=encoder.max_tokens,
        digest=digest,
        lineage=[manifest.parent] if manifest and manifest.parent else [],
        metrics=manifest.metrics if manifest else {},
        recipe=manifest.recipe if manifest else {},
        calibration=manifest.calibration if manifest else None,
    )
    return ModelCard(id=str(ref), created=created, assay=info)
