"""The layers that all members share, run once for any number of passes over the same batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import ismethod
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor, nn

from assay.errors import ModelLoadError


def transformer_layers(model: nn.Module) -> nn.ModuleList:
    """The stack of transformer layers: the longest list of modules of one class.

    Raises:
        ModelLoadError: the model has no such list.
    """
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    if not stacks:
        raise ModelLoadError(f"{type(model).__name__} has no stack of layers to share")
    return max(stacks, key=len)


class SharedTrunk:
    """Remembers what the lowest layers of a model gave, and gives it again without running them.

    A plain forward pass runs in full and its trunk output is kept; inside `replay()` the trunk
    layers are skipped and the kept output is handed to the first layer above them. The passes must
    be over the same batch, since masks and positions are computed anew.

    Args:
        model: any transformer whose layers take the hidden states as first argument and return
            them, alone or first in a tuple whose rest may be None.
        layers: how many of the lowest layers are shared, at least 1.
    """

    def __init__(self, model: nn.Module, layers: int) -> None:
        stack = transformer_layers(model)
        if not 1 <= layers <= len(stack):
            raise ModelLoadError(f"cannot share {layers} of {len(stack)} layers")
        self.layers = layers
        self._hidden: Tensor | None = None
        self._replaying = False
        self._companions: int | None = None  # what layers return beside the hidden states
        for index in range(layers):
            layer = stack[index]
            # An instance attribute, so that the class, hooks and parameter names stay untouched.
            layer.forward = self._wrap(_weak(layer.forward), last=index == layers - 1)

    def _wrap(
        self, original: Callable[[], Callable[..., Any] | None], *, last: bool
    ) -> Callable[..., Any]:
        def shared_forward(hidden_states: Tensor, *args: object, **kwargs: object) -> Any:
            if self._replaying:
                given = self._hidden if last and self._hidden is not None else hidden_states
                return self._as_returned(given)
            forward = original()
            assert forward is not None  # noqa: S101 - its layer is being called
            output = forward(hidden_states, *args, **kwargs)
            if last:
                is_tuple = isinstance(output, tuple)
                self._companions = len(output) - 1 if is_tuple else None
                self._hidden = output[0] if is_tuple else output
            return output

        return shared_forward

    def _as_returned(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        if self._companions is None:
            return hidden
        return (hidden, *[None] * self._companions)

    @contextmanager
    def replay(self, hidden: Tensor | None = None) -> Iterator[None]:
        """Skip the trunk in the passes inside.

        Args:
            hidden: trunk output, shape [batch, tokens, width]; None = that of the last pass.
        """
        if hidden is not None:
            self._hidden = hidden
        if self._hidden is None:
            raise ValueError("there is no trunk output to replay: run one full pass first")
        self._replaying = True
        try:
            yield
        finally:
            self._replaying = False

    def take_hidden(self) -> Tensor:
        """The trunk output of the last full pass, which is then forgotten here."""
        hidden, self._hidden = self._hidden, None
        if hidden is None:
            raise ValueError("no pass has run since the trunk output was last taken")
        return hidden

    def run(self, model: nn.Module, **inputs: Any) -> Tensor:
        """Run a model for its trunk output alone, shape [batch, tokens, width]."""
        with torch.inference_mode():
            model(**inputs)
        return self.take_hidden()


def _weak(forward: Callable[..., Any]) -> Callable[[], Callable[..., Any] | None]:
    """A layer's method without a hold on the layer, which would otherwise keep itself alive."""
    return WeakMethod(forward) if ismethod(forward) else lambda: forward
