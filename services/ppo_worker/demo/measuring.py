"""How good a small policy's text is, beside what people wrote."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ppo_worker.demo.corpus import Document
from ppo_worker.demo.vocabulary import encode

_REPEATED, _COPIED = 4, 8  # words of an n-gram


class Figures(BaseModel):
    """Of one set of texts."""

    model_config = ConfigDict(frozen=True)

    texts: int
    tokens: float = Field(description="Mean number of tokens, the end included.")
    perplexity: float = Field(description="Per token, given the prompt.")
    repetition: float = Field(description="Share of 4-grams that occurred earlier in their text.")
    copied: float = Field(description="Share of 8-grams that the training texts have too.")


def measure(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    training: Iterable[str],
) -> Figures:
    """The figures of some texts, each with the first of its prompts."""
    texts = [document.text for document in documents]
    perplexity, tokens = _perplexity(model, tokenizer, documents)
    return Figures(
        texts=len(texts),
        tokens=tokens,
        perplexity=perplexity,
        repetition=repetition(texts),
        copied=copied(texts, training),
    )


def repetition(texts: Iterable[str]) -> float:
    """Share of 4-grams of words that occurred earlier in the same text; nan if there are none."""
    total = repeated = 0
    for text in texts:
        counts = Counter(_grams(text, _REPEATED))
        total += counts.total()
        repeated += counts.total() - len(counts)
    return repeated / total if total else math.nan


def copied(texts: Iterable[str], training: Iterable[str]) -> float:
    """Share of 8-grams of words that the training texts have too; nan if there are none."""
    grams = Counter(gram for text in texts for gram in _grams(text, _COPIED))
    found = {gram for text in training for gram in _grams(text, _COPIED) if gram in grams}
    return sum(grams[gram] for gram in found) / grams.total() if grams else math.nan


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return list(zip(*(words[start:] for start in range(size)), strict=False))


@torch.no_grad()
def _perplexity(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]
) -> tuple[float, float]:
    """Per token of the text, and the mean number of its tokens."""
    total, count = 0.0, 0
    for document in documents:
        ids = torch.tensor([encode(tokenizer, document)[0].tolist()])
        given = len(tokenizer.encode(document.prompts[0])) if document.prompts else 1
        logits = model(input_ids=ids).logits[:, given - 1 : -1].float()
        target = ids[:, given:]
        total += float(torch.nn.functional.cross_entropy(logits[0], target[0], reduction="sum"))
        count += target.numel()
    return math.exp(total / count), count / len(documents)


@torch.no_grad()
def sample(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    each: int,
    seed: int = 0,
) -> list[Document]:
    """Completions of the policy, as its generation settings have it."""
    torch.manual_seed(seed)
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    sequences = model.generate(**inputs, num_return_sequences=each)  # type: ignore[misc]
    width = batch["input_ids"].shape[1]
    texts = tokenizer.batch_decode(sequences[:, width:], skip_special_tokens=True)
    asked = [prompt for prompt in prompts for _ in range(each)]
    return [
        Document("arguments", (prompt,), text) for prompt, text in zip(asked, texts, strict=True)
    ]
