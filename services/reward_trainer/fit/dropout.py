"""Dropout in the trained layers, where a model has places for it and where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.functional import dropout


def set_dropout(model: nn.Module, layers: Sequence[nn.Module], rate: float) -> None:
    """Give a model one rate of dropout, and the layers dropout if they have none.

    Attention keeps none: its kernels are far slower with dropout, and it adds little. Llama and its
    kin have no dropout at all, and two passes over a text would be equal; theirs goes where GPT-2
    and BERT have it, on what each sublayer adds to the residual stream.

    Args:
        model: whatever of its dropout modules is outside of attention is set.
        layers: transformer layers that are trained.
        rate: from 0 to below 1.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0 if ".attention.self" in name else rate
    for layer in layers:
        if rate and not any(isinstance(module, nn.Dropout) for module in layer.modules()):
            for sublayer in layer.children():
                if any(isinstance(module, nn.Linear) for module in sublayer.modules()):
                    sublayer.register_forward_hook(_dropping(rate))


def _dropping(rate: float) -> Any:
    def hook(module: nn.Module, _args: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (dropout(output[0], rate, module.training), *output[1:])
        return dropout(output, rate, module.training)

    return hook
