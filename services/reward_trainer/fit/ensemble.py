"""The ensemble that a recipe starts from: fresh adapters and heads over a frozen backbone."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from assay.models.checkpoints import read_backbone, read_tokenizer
from assay.models.inputs import InputEncoder
from assay.models.loading import default_format, make_pooler
from assay.models.manifest import Backbone
from assay.models.members import AdapterMembers
from assay.models.options import LoadOptions
from assay.models.pooling import reward_head
from assay.models.resolve import backbone_folder
from assay.models.trunk import transformer_layers
from reward_trainer.fit.recipe import Recipe

_HEAD_STD = 0.02


def fresh_ensemble(
    recipe: Recipe, backbone: Backbone, options: LoadOptions
) -> tuple[AdapterMembers, InputEncoder]:
    """Members that differ in their seed alone, and the encoder that goes with them.

    Every linear layer of the stack above the trunk gets an adapter; heads are trained whole.
    """
    tokenizer = read_tokenizer(backbone_folder(backbone.source), options)
    base = read_backbone(backbone, options)
    _set_dropout(base, recipe)
    pooler = make_pooler(base, tokenizer, options, backbone)
    head = _module_name(base, reward_head(base))
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=_linear_layers(base, recipe),
        modules_to_save=[head],
    )
    names = [f"member_{index}" for index in range(recipe.members)]
    torch.manual_seed(recipe.seed)
    model = get_peft_model(base, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    members = AdapterMembers(model, pooler, names, recipe.trunk_layers)
    for layer in members.heads():
        nn.init.normal_(layer.weight, std=_HEAD_STD)
    encoder = InputEncoder(tokenizer, default_format(tokenizer), recipe.max_tokens)
    return members, encoder


def _linear_layers(base: PreTrainedModel, recipe: Recipe) -> list[str]:
    above = list(transformer_layers(base))[recipe.trunk_layers :]
    adapted = {id(module) for layer in above for module in layer.modules()}
    return [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and id(module) in adapted
    ]


def _module_name(base: nn.Module, wanted: nn.Module) -> str:
    names: dict[int, str] = {id(module): name for name, module in base.named_modules()}
    return names[id(wanted)]


def _set_dropout(base: PreTrainedModel, recipe: Recipe) -> None:
    """Attention keeps none: its kernels are far slower with dropout, and it adds little."""
    for name, module in base.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0 if ".attention.self" in name else recipe.dropout
