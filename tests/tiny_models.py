"""Tiny random reward models of many families, with real tokenizers, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<turn>{{ m.role }}\n{{ m.content }}<eos>\n{% endfor %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
}
DECODER: dict[str, Any] = {**SIZES, "num_key_value_heads": 1, "max_position_embeddings": 256}
ENCODER: dict[str, Any] = {**SIZES, "max_position_embeddings": 128}


def byte_tokenizer(special: dict[str, str], template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a byte, plus the special tokens; BOS in front, if there is one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    extra = ["<|im_start|>", "<|im_end|>", "<turn>", *special.values()]
    vocab = {word: i for i, word in enumerate(dict.fromkeys([*extra, *alphabet]))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(dict.fromkeys(extra)))
    core.post_processor = _post_processor(special, vocab)
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if "cls_token" in special else []
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core, model_input_names=names, **special
    )  # type: ignore[no-untyped-call]
    made.chat_template = template
    return made


def _post_processor(special: dict[str, str], vocab: dict[str, int]) -> Any:
    if "cls_token" in special:
        cls, sep = special["cls_token"], special["sep_token"]
        return processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
        )
    if "bos_token" in special:
        bos = special["bos_token"]
        return processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=[(bos, vocab[bos])]
        )
    return processors.ByteLevel()


LLAMA = {"bos_token": "<bos>", "eos_token": "<|im_end|>"}
BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
PADDED = {**LLAMA, "pad_token": "<pad>"}
PAD_IS_EOS = {**LLAMA, "pad_token": "<|im_end|>"}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}

FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, str], str | None]] = {
    "llama": ("Llama", DECODER, PADDED, CHATML),
    "llama-no-pad": ("Llama", DECODER, LLAMA, CHATML),
    "llama-pad-is-eos": ("Llama", DECODER, PAD_IS_EOS, CHATML),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 16}, PADDED, CHATML),
    "gemma2": ("Gemma2", {**DECODER, "head_dim": 16, "sliding_window": 16}, GEMMA, NO_SYSTEM),
    "gpt2": (
        "GPT2",
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256, "num_labels": 1},
        {"eos_token": "<eos>"},
        None,
    ),
    "bert": ("Bert", ENCODER, BERT, None),
    "roberta": ("Roberta", {**ENCODER, "max_position_embeddings": 130}, BERT, None),
    "deberta": (
        "DebertaV2",
        {**ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        BERT,
        None,
    ),
}


def save_family(family: str, folder: Path, seed: int = 0, side: str = "right") -> Path:
    """A random reward model of a family, as transformers saves it."""
    name, sizes, special, template = FAMILIES[family]
    tokenizer = byte_tokenizer(special, template)
    tokenizer.padding_side = side
    ids = {f"{k}_id": tokenizer.convert_tokens_to_ids(v) for k, v in special.items()}
    known = {k: v for k, v in ids.items() if k in ("pad_token_id", "bos_token_id", "eos_token_id")}
    torch.manual_seed(seed)
    config: Any = getattr(hf, f"{name}Config")(
        vocab_size=len(tokenizer), **{"pad_token_id": None, **known}, **sizes
    )
    build: Callable[[Any], Any] = getattr(hf, f"{name}ForSequenceClassification")
    model = build(config)
    for weight in model.parameters():  # scores of a size at which an error of 1e-4 is one
        torch.nn.init.normal_(weight, std=0.3 if weight.dim() > 1 else 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
