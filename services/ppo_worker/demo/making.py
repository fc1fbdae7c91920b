"""Makes the default policy from the open texts: tokenizer, training, figures, folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assay.errors import DataError
from ppo_worker.demo.corpus import CREDITS, Corpus, Document, read_corpus
from ppo_worker.demo.measuring import Figures, measure, sample
from ppo_worker.demo.task import held_out_prompts, training_prompts
from ppo_worker.demo.training import Recipe, Step, new_model, train, training_rows
from ppo_worker.demo.vocabulary import encode, train_tokenizer

_MANIFEST = "manifest.json"
_NEW_TOKENS = 56
_REAL_TEXTS = 200  # of the answers kept back
_HELD_OUT_EACH, _TRAINING_EACH = 8, 2  # completions of a prompt


class Manifest(BaseModel):
    """What is known of a policy that this script made."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    parameters: int
    corpus: str = Field(description="SHA-256 of the texts.")
    documents: dict[str, int] = Field(description="Texts by source.")
    tokens: int = Field(description="Tokens of all steps.")
    credits: dict[str, str] = Field(description="Where each file comes from, and its licence.")
    figures: dict[str, Figures] = Field(description="By set of texts.")


def pretrain(
    data: Path, out: Path, work: Path, recipe: Recipe, tell: Callable[[Step], None]
) -> Manifest:
    """Train the policy, or go on with it, then measure and save it.

    Args:
        data: folder of the texts.
        out: where the policy goes, in transformers' own format.
        work: for the checkpoint.
        recipe: its seed decides all that is random.
        tell: called after each step.

    Raises:
        DataError: the texts or the checkpoint cannot be used, or a folder cannot be written.
    """
    _make_folders(out, work)
    corpus = read_corpus(data)
    tokenizer = train_tokenizer(_learned(corpus), recipe.vocabulary, recipe.row_tokens)
    encoded = [(document.source, encode(tokenizer, document)) for document in corpus.train]
    rows = training_rows(encoded, recipe)
    model = new_model(recipe, end=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    identity = hashlib.sha256(f"{corpus.digest}{recipe.model_dump_json()}".encode()).hexdigest()
    train(model, rows, recipe, work, identity=identity, tell=tell)
    _ready(model)
    manifest = Manifest(
        recipe=recipe,
        parameters=model.num_parameters(),
        corpus=corpus.digest,
        documents=corpus.counts,
        tokens=rows.numel(),
        credits=CREDITS,
        figures=figures(model, tokenizer, corpus),
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _make_folders(*folders: Path) -> None:
    """Before the work, not after it."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder} cannot be made: {error.strerror}") from error


def figures(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus
) -> dict[str, Figures]:
    """What people and other models wrote on prompts that were kept back, beside the policy's."""
    learned = list(_learned(corpus))
    sets: dict[str, Sequence[Document]] = {
        "arguments of people, held-out topics": corpus.held_out_arguments,
        "answers to held-out prompts": corpus.held_out[:_REAL_TEXTS],
        "the policy, held-out topics": sample(
            model, tokenizer, held_out_prompts(), each=_HELD_OUT_EACH
        ),
        "the policy, training topics": sample(
            model, tokenizer, training_prompts(), each=_TRAINING_EACH
        ),
    }
    return {name: measure(model, tokenizer, found, learned) for name, found in sets.items()}


def _learned(corpus: Corpus) -> list[str]:
    return [text for document in corpus.train for text in (*document.prompts, document.text)]


def _ready(model: LlamaForCausalLM) -> None:
    """Weights as they ship, and how the policy generates when nothing else is asked for."""
    model.bfloat16()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=0.8,
        top_p=0.9,
        top_k=0,
        max_new_tokens=_NEW_TOKENS,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
