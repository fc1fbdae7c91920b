"""The members that a recipe trains: fresh adapters and heads over a backbone, or whole models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from assay.errors import ModelLoadError, StartupError
from assay.models.checkpoints import read_backbone, read_tokenizer, token_limit
from assay.models.inputs import InputEncoder
from assay.models.loading import default_format, describe_backbone, make_pooler
from assay.models.manifest import Backbone
from assay.models.members import AdapterMembers, Members, WholeMembers
from assay.models.options import LoadOptions
from assay.models.pooling import Pooler, reward_head
from assay.models.resolve import backbone_folder
from assay.models.trunk import SharedTrunk, transformer_layers
from reward_trainer.fit.dropout import set_dropout
from reward_trainer.fit.recipe import Recipe

_HEAD_STD = 0.02


@dataclass(frozen=True)
class Member:
    """One model to train.

    Attributes:
        model: holds the weights; those that require gradients are trained.
        pooler: scores with it.
        head: the linear layer that gives the score.
        trunk: the frozen lower layers, if there are any.
    """

    model: nn.Module
    pooler: Pooler
    head: nn.Linear
    trunk: SharedTrunk | None


class Ensemble:
    """Makes the members of a recipe, fresh or with trained weights.

    Args:
        recipe: says what they are.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ModelLoadError: the backbone is missing, or of a kind that cannot be trained so.
        StartupError: the device is not there.
    """

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.recipe = recipe
        dtype = "float32" if recipe.adapter == "full" else "auto"
        self.options = LoadOptions(device=resolve_device(device), dtype=dtype)
        location = backbone_folder(recipe.backbone)
        self.tokenizer: PreTrainedTokenizerBase = read_tokenizer(location, self.options)
        self._config = _read_config(location)
        self.backbone = self._describe(location)
        self.names = [f"member_{index}" for index in range(recipe.members)]

    def encoder(self, max_tokens: int) -> InputEncoder:
        """The encoder that goes with the members."""
        limit = min(max_tokens, token_limit(self._config, self.tokenizer))
        return InputEncoder(self.tokenizer, default_format(self.tokenizer), limit)

    @property
    def trunk_id(self) -> str:
        """Equal for equal trunks, in whatever recipe."""
        weights = sorted(self.backbone.sha256.values()) or [str(self.backbone.revision)]
        return ":".join([self.recipe.backbone, str(self.recipe.trunk_layers), *weights])

    def fresh(self, index: int) -> Member:
        """Member `index` as its training starts; it depends on its seed alone."""
        torch.manual_seed(self.recipe.seed + index)
        base = self._base()
        set_dropout(base, self._trained_layers(base), self.recipe.dropout)
        if self.recipe.adapter == "full":
            return self._whole(base)
        adapters = self._adapters(base, self.names[index : index + 1])
        (head,) = adapters.heads()
        return Member(adapters.model, adapters.pooler, head, adapters.trunk)

    def trained(self, weights: Sequence[Mapping[str, Tensor]]) -> Members:
        """All members with the weights that their trainings ended with."""
        if self.recipe.adapter == "full":
            members = [self._whole(self._base()) for _ in weights]
            for member, own in zip(members, weights, strict=True):
                load_weights(member.model, own)
                if len(members) == 1 and not _has_bias(member.pooler.model):
                    # Only an ensemble needs one, to be centred.
                    member.head.register_parameter("bias", None)
            return WholeMembers([member.pooler for member in members])
        adapters = self._adapters(self._base(), self.names)
        for own in weights:
            load_weights(adapters.model, own)
        adapters.model.eval()
        return adapters

    def _base(self) -> PreTrainedModel:
        return read_backbone(self.backbone, self.options)

    def _whole(self, base: PreTrainedModel) -> Member:
        pooler = make_pooler(base, self.tokenizer, self.options)
        base.requires_grad_(True)
        trunk = None
        if self.recipe.trunk_layers:
            trunk = SharedTrunk(base, self.recipe.trunk_layers)
            _freeze_below(base, self._trained_layers(base))
        head = reward_head(base)
        if not _has_bias(base):
            head.bias.requires_grad_(False)
        return Member(base, pooler, head, trunk)

    def _adapters(self, base: PreTrainedModel, names: Sequence[str]) -> AdapterMembers:
        """Every linear layer above the trunk gets an adapter; heads are trained whole."""
        pooler = make_pooler(base, self.tokenizer, self.options, self.backbone)
        layers = self._linear_layers(base)
        config = LoraConfig(
            r=self.recipe.rank,
            lora_alpha=self.recipe.alpha,
            target_modules=list(layers),
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
            modules_to_save=[_module_name(base, reward_head(base))],
        )
        model = get_peft_model(base, config, adapter_name=names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
        members = AdapterMembers(model, pooler, names, self.recipe.trunk_layers)
        for head in members.heads():
            nn.init.normal_(head.weight, std=_HEAD_STD)
        return members

    def _trained_layers(self, base: PreTrainedModel) -> list[nn.Module]:
        layers = list(transformer_layers(base))
        if self.recipe.trunk_layers >= len(layers):
            raise ModelLoadError(
                f"{self.recipe.backbone} has {len(layers)} layers, and trunk_layers = "
                f"{self.recipe.trunk_layers} leaves none to train"
            )
        return layers[self.recipe.trunk_layers :]

    def _linear_layers(self, base: PreTrainedModel) -> dict[str, nn.Module]:
        above = {id(m) for layer in self._trained_layers(base) for m in layer.modules()}
        return {
            name: module
            for name, module in base.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and id(module) in above
        }

    def _describe(self, location: str) -> Backbone:
        recipe, folder = self.recipe, Path(location)
        revision = getattr(self._config, "_commit_hash", None)
        if recipe.backbone.startswith("package:"):
            revision = metadata.version(recipe.backbone.removeprefix("package:").partition("/")[0])
        pool = recipe.pool
        return describe_backbone(recipe.backbone, revision, folder, recipe.layers, pool)


def _read_config(location: str) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(location)
        return config
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelLoadError(
            f"{location} has no configuration that can be read: {first}"
        ) from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put trained weights in their places.

    Raises:
        ModelLoadError: one has no place, or another shape.
    """
    own = dict(model.named_parameters())
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            raise ModelLoadError(f"{name} is no weight of this {type(model).__name__}")
        own[name].data.copy_(value)


def resolve_device(name: str) -> str:
    """`auto` as what this machine has.

    Raises:
        StartupError: there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise StartupError(f"device {name}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise StartupError("device cuda: there is none here; choose auto or cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _freeze_below(base: PreTrainedModel, trained: Sequence[nn.Module]) -> None:
    """Freeze what runs before the trained layers or beside them: embeddings, the trunk."""
    stack = transformer_layers(base)
    for child in base.base_model.children():
        child.requires_grad_(False)
        if any(module is stack for module in child.modules()):
            break
    for layer in trained:
        layer.requires_grad_(True)


def _has_bias(base: PreTrainedModel) -> bool:
    """Whether the head of the model's class has a bias, without the one that reading it adds."""
    with torch.device("meta"):
        return reward_head(type(base)(base.config)).bias is not None


def _module_name(base: nn.Module, wanted: nn.Module) -> str:
    names: dict[int, str] = {id(module): name for name, module in base.named_modules()}
    return names[id(wanted)]
