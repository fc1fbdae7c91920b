"""Policies from folders or the hub, their prompts as tokens, and trained ones back to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jinja2
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from assay.errors import DataError, ModelLoadError, ModelNotFoundError
from assay.models.checkpoints import read_tokenizer, token_limit
from assay.models.options import LoadOptions
from assay.schemas.text import Prompt, as_messages
from ppo_worker.policy import LanguageModel, Policy
from ppo_worker.seeds import seed_for
from ppo_worker.settings import PPOSettings

# Tied to its embeddings, the head of a language model is never missing.
_OTHERS = "ForSequenceClassification", "ForMaskedLM"


@dataclass(frozen=True)
class Codec:
    """Prompts to tokens, and tokens to text.

    Attributes:
        tokenizer: the policy's own.
        ends: ids that end a completion.
        pad: id to pad with.
        limit: longest prompt in tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]
    pad: int
    limit: int

    def encode(self, prompt: Prompt) -> list[int]:
        """The tokens that a completion of a prompt follows, by the chat template if there is one.

        Raises:
            DataError: it is too long, empty, or nothing for the chat template.
        """
        ids = self._templated(prompt) if self.tokenizer.chat_template else self._plain(prompt)
        if not 0 < len(ids) <= self.limit:
            raise DataError(
                f"a prompt has {len(ids)} tokens, and 1 to {self.limit} are possible: shorten it, "
                "or change max_prompt_tokens and max_new_tokens"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, without special tokens."""
        return cast(str, self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _plain(self, prompt: Prompt) -> list[int]:
        if not isinstance(prompt, str):
            raise DataError("a prompt holds messages, and the policy has no chat template")
        return list(self.tokenizer(prompt)["input_ids"])

    def _templated(self, prompt: Prompt) -> list[int]:
        messages = as_messages(prompt)
        begun = messages[-1]["role"] == "assistant"
        try:
            ids = self.tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=not begun,
                continue_final_message=begun,
                return_dict=False,
            )
        except (jinja2.TemplateError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the policy's chat template refuses a prompt: {_first_line(error)}"
            ) from error
        return list(ids)


def load_policy(settings: PPOSettings, location: str) -> tuple[Policy, Codec]:
    """Read a policy, with new adapters if there is to be LoRA, and a new value head.

    Raises:
        ModelNotFoundError: nothing is there.
        ModelLoadError: it does not load, is no whole language model, has no end token, does not
            fit its tokenizer, or is too short for the settings.
    """
    tokenizer = read_tokenizer(location, LoadOptions())
    model = _read(location, settings)
    ends = _ends(model, tokenizer)
    if not ends:
        raise ModelLoadError(f"{location} has no end token: name one in its tokenizer")
    _check_vocabulary(model, tokenizer, location)
    pad = tokenizer.pad_token_id
    codec = Codec(
        tokenizer, ends, ends[0] if pad is None else int(pad), _limit(model, tokenizer, settings)
    )
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=0,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=list(ends),
        pad_token_id=codec.pad,
    )
    rank = settings.lora_rank
    adapted = model if rank is None else _adapted(model, rank, settings.seed)
    seed = seed_for(settings.seed, "value head", 0)
    return Policy(adapted, settings.temperature, seed), codec


def save_policy(policy: Policy, codec: Codec, folder: Path) -> None:
    """Write the trained policy as plain transformers, or peft, loads it.

    Raises:
        DataError: it cannot be written.
    """
    try:
        policy.model.save_pretrained(str(folder))
        codec.tokenizer.save_pretrained(str(folder))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder} cannot be written: {error}; free some disk") from error


def _read(location: str, settings: PPOSettings) -> PreTrainedModel:
    # Adapters over a frozen model: its weights may stay small. Weights that learn stay float32.
    small = settings.precision == "bf16" and settings.lora_rank is not None
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=torch.bfloat16 if small else torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    except OSError as error:
        raise ModelNotFoundError(f"{location}: {_first_line(error)}") from error
    except (ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelLoadError(f"{location} does not load: {_first_line(error)}") from error
    model: PreTrainedModel = loaded[0]
    _check_whole(model, sorted(loaded[1]["missing_keys"]), location)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _check_whole(model: PreTrainedModel, missing: Sequence[str], location: str) -> None:
    """Refuse what transformers would fill up with random weights, freeze, or sample NaN from."""
    if not all(weight.requires_grad for weight in model.parameters()):
        raise ModelLoadError(
            f"{location} holds adapters: merge them into their model first (`merge_and_unload`)"
        )
    architectures = model.config.architectures or ()
    if missing or any(name.endswith(_OTHERS) for name in architectures):
        lacks = f": it has no weights for {', '.join(missing[:3])}" if missing else ""
        raise ModelLoadError(f"{location} is no causal language model{lacks}")
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ModelLoadError(f"{location}: {name} holds numbers that are not finite")


def _check_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, location: str
) -> None:
    words = len(cast(torch.Tensor, model.get_input_embeddings().weight))
    highest = max(tokenizer.get_vocab().values())
    if highest >= words:
        raise ModelLoadError(
            f"{location}: its tokenizer has the id {highest}, and its model {words} words: they do "
            "not belong together"
        )


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    config = model.generation_config
    named = config.eos_token_id if config is not None else None
    several = named if isinstance(named, list) else [named]
    found = [end for end in (tokenizer.eos_token_id, *several) if isinstance(end, int)]
    return tuple(dict.fromkeys(found))


def _limit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: PPOSettings
) -> int:
    left = token_limit(model.config, tokenizer) - settings.max_new_tokens
    if left < 1:
        raise ModelLoadError(
            f"max_new_tokens {settings.max_new_tokens} leaves the policy no room for a prompt: it "
            f"takes {left + settings.max_new_tokens} tokens"
        )
    return min(left, settings.max_prompt_tokens)


def _adapted(model: PreTrainedModel, rank: int, seed: int) -> LanguageModel:
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),  # GPT-2's
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "adapters", 0))
        return cast(PeftModel, get_peft_model(model, config))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
