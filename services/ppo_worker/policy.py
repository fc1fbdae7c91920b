"""The policy with its value head, and the frozen reference that it started as."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from assay.errors import ModelLoadError
from ppo_worker.losses import entropy, token_logprobs
from ppo_worker.tokens import Tokens

LanguageModel = PreTrainedModel | PeftModel


class Predicted(NamedTuple):
    """What the policy says about the tokens of completions; T may be less than that of the batch.

    Attributes:
        logits: of each token before it is seen, over the temperature, shape [B, T, V].
        values: expected return before each token, shape [B, T].
        hidden: what the value head reads, shape [B, T, H].
    """

    logits: Tensor
    values: Tensor
    hidden: Tensor


class Policy(nn.Module):
    """A causal language model, a value head on its last hidden state, and the reference.

    The policy is the softmax of the logits over the temperature, in sampling, in the ratio, and in
    the KL, for the reference too. With top-p below 1 it is sampled from its nucleus, and no
    log-probability is renormalised for that: ratios and KL are those of the whole distribution.

    Args:
        model: all weights, or adapters that can be switched off.
        temperature: above 0.
        seed: of the value head's first layer; its last one starts at 0.
    """

    def __init__(self, model: LanguageModel, temperature: float, seed: int) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        bare = cast(
            PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model
        )
        self._accepts = frozenset(inspect.signature(bare.forward).parameters)
        head = cast(nn.Linear, bare.get_output_embeddings())  # type: ignore[no-untyped-call]
        size = head.weight.shape[1]  # of the state that it reads, too
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            last = nn.Linear(size, 1)
            self.value_head = nn.Sequential(nn.Linear(size, size), nn.Tanh(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # In a tuple, so that it is no part of this module's parameters.
        self._frozen: tuple[LanguageModel, ...] = ()
        if not isinstance(model, PeftModel):
            self._frozen = (_frozen_copy(model),)
        self.eval()

    @contextmanager
    def reference(self) -> Iterator[LanguageModel]:
        """The model as it was before training."""
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                yield self.model
        else:
            yield self._frozen[0]

    def forward(self, tokens: Tokens) -> Predicted:
        """Predict the tokens of completions."""
        outputs = self._run(self.model, tokens)
        width = tokens.width
        hidden = outputs.hidden_states[-1][:, -width - 1 : -1].float()
        with torch.autocast(hidden.device.type, enabled=False):  # as when the critic learns alone
            values = self.value_head(hidden).squeeze(-1)
        return Predicted(self._logits(outputs, width), values, hidden)

    @torch.no_grad()
    def reference_logits(self, tokens: Tokens) -> Tensor:
        """The reference's logits over the temperature, shape [B, T, V]."""
        with self.reference() as model:
            return self._logits(self._run(model, tokens), tokens.width)

    def to_device(self, device: torch.device) -> Policy:
        """Move everything, the reference included."""
        for module in (self, *self._frozen):
            nn.Module.to(module, device)
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """Of the language model."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def trained_state(self) -> dict[str, Tensor]:
        """Copies of all weights that training changes, on the CPU."""
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        state = self.state_dict()
        return {name: state[name].detach().cpu().clone() for name in sorted(trained)}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """What `trained_state` gave.

        Raises:
            ModelLoadError: it is of another model.
        """
        try:
            missing = set(self.trained_state()) ^ set(state)
            if missing:
                raise ModelLoadError(f"the checkpoint is of another policy: {min(missing)}")
            self.load_state_dict(dict(state), strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ModelLoadError(f"the checkpoint is of another policy: {first}") from error

    def _run(self, model: LanguageModel, tokens: Tokens) -> Any:
        offered = {"position_ids": tokens.position_ids, "logits_to_keep": tokens.width + 1}
        return model(
            input_ids=tokens.ids,
            attention_mask=tokens.attention_mask,
            use_cache=False,
            output_hidden_states=True,
            **{name: value for name, value in offered.items() if name in self._accepts},
        )

    def _logits(self, outputs: Any, width: int) -> Tensor:
        logits: Tensor = outputs.logits[:, -width - 1 : -1].float()
        return logits / self.temperature


class Measured(NamedTuple):
    """What a batch of completions is, before the policy learns from it; each of shape [B, T].

    Attributes:
        logprobs: of the policy that sampled.
        ref_logprobs: of the reference.
        values: of the critic as it is.
        entropies: of the policy's next-word distributions, in nats.
    """

    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    entropies: Tensor


@torch.no_grad()
def measure(policy: Policy, tokens: Tokens) -> Measured:
    """One pass of the policy and one of the reference over a batch that fits at once."""
    predicted = policy(tokens)
    reference = policy.reference_logits(tokens)
    ids = tokens.completions
    return Measured(
        token_logprobs(predicted.logits, ids),
        token_logprobs(reference, ids),
        predicted.values,
        entropy(predicted.logits),
    )


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    frozen = copy.deepcopy(model)
    frozen.requires_grad_(False)
    frozen.eval()  # type: ignore[no-untyped-call]
    return frozen
